"""Two tables: the tokens, and one row for each account, which is its lock."""

from typing import Any

from django.db import models


class ExactCharField(models.CharField):
    """Text compared byte for byte: MySQL and MariaDB fold case and ignore trailing spaces unless told otherwise."""

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        """As of a CharField, with a collation that neither folds nor pads."""
        parameters: dict[str, Any] = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"
        return parameters


class AccountLock(models.Model):
    """An account's lock. Upserted first in each transaction that changes the account's tokens; holds nothing else."""

    id = models.BigAutoField(primary_key=True)
    account_id = ExactCharField(max_length=255, unique=True)


class Token(models.Model):
    """A `resetkit.TokenRecord`, field by field. Times are Unix seconds. No foreign key: the account need not exist."""

    position = models.BigAutoField(primary_key=True)  # the order of `add`, which clocks do not tell
    selector = ExactCharField(max_length=255, unique=True)
    account_id = ExactCharField(max_length=255, db_index=True)
    kind = models.CharField(max_length=16)
    link_hash = models.CharField(max_length=512)
    code_hash = models.CharField(max_length=512, null=True)
    stamp_digest = models.CharField(max_length=512)
    created_at = models.BigIntegerField()
    expires_at = models.BigIntegerField()
    code_expires_at = models.BigIntegerField(null=True)
    keep_until = models.BigIntegerField(db_index=True)
    guesses = models.IntegerField()
    state = models.CharField(max_length=16)
    claim_id = ExactCharField(max_length=255, null=True)
