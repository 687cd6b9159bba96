"""``python -m resetkit.testing.vectors``: how many cases each group holds."""

from resetkit.testing.vectors import cases, groups


def main() -> None:
    """Print the groups with their counts, and the total."""
    for group in groups():
        print(f"{len(group.cases):5}  {group.name}: {group.about}")
    print(f"{len(cases()):5}  in all")


main()
