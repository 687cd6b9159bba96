from django.db import migrations, models

import resetkit_django.models


class Migration(migrations.Migration):
    initial = True

    operations = [
        migrations.CreateModel(
            name="AccountLock",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("account_id", resetkit_django.models.ExactCharField(max_length=255, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Token",
            fields=[
                ("position", models.BigAutoField(primary_key=True, serialize=False)),
                ("selector", resetkit_django.models.ExactCharField(max_length=255, unique=True)),
                ("account_id", resetkit_django.models.ExactCharField(db_index=True, max_length=255)),
                ("kind", models.CharField(max_length=16)),
                ("link_hash", models.CharField(max_length=512)),
                ("code_hash", models.CharField(max_length=512, null=True)),
                ("stamp_digest", models.CharField(max_length=512)),
                ("created_at", models.BigIntegerField()),
                ("expires_at", models.BigIntegerField()),
                ("code_expires_at", models.BigIntegerField(null=True)),
                ("keep_until", models.BigIntegerField(db_index=True)),
                ("guesses", models.IntegerField()),
                ("state", models.CharField(max_length=16)),
                ("claim_id", resetkit_django.models.ExactCharField(max_length=255, null=True)),
            ],
        ),
    ]
