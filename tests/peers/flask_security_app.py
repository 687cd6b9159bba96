"""Flask-Security-Too over Flask-SQLAlchemy, with generic responses on: without, the answer's words tell already."""

import time
import uuid
from pathlib import Path

from flask import Flask
from flask_security import MailUtil, Security, SQLAlchemyUserDatastore, hash_password
from flask_security.changeable import admin_change_password
from flask_security.models import fsqla_v3
from flask_security.recoverable import generate_reset_password_token
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event


class SlowMail(MailUtil):
    seconds = 0.0

    def send_mail(self, *_args, **_options) -> None:
        time.sleep(self.seconds)


class Peer:
    name = "Flask-Security"

    def __init__(self, folder: Path, mail: float) -> None:
        SlowMail.seconds = mail
        self.app = Flask(__name__)
        self.app.config |= {
            "SECRET_KEY": "s" * 50,
            "SECURITY_PASSWORD_SALT": "1" * 38,
            "SECURITY_RECOVERABLE": True,
            "SECURITY_RETURN_GENERIC_RESPONSES": True,
            "SECURITY_EMAIL_VALIDATOR_ARGS": {"check_deliverability": False},
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'peer.sqlite3'}",
            "SQLALCHEMY_ENGINE_OPTIONS": {
                "pool_size": 40,  # one smaller than the race would let fewer in, and prove nothing
                "connect_args": {"timeout": 60},
            },
            "WTF_CSRF_ENABLED": False,
        }
        self.db = SQLAlchemy(self.app)
        fsqla_v3.FsModels.set_db_info(self.db)
        db = self.db

        class Role(db.Model, fsqla_v3.FsRoleMixin):
            pass

        class User(db.Model, fsqla_v3.FsUserMixin):
            pass

        self.user = User
        self.datastore = SQLAlchemyUserDatastore(db, User, Role)
        Security(self.app, self.datastore, mail_util_cls=SlowMail)
        with self.app.app_context():
            event.listen(db.engine, "connect", lambda connection, _: connection.execute("PRAGMA journal_mode=wal"))
            db.create_all()

    def add(self, addresses) -> None:
        with self.app.app_context():
            password = hash_password("correct horse battery")
            self.db.session.add_all(
                [
                    self.user(email=each, password=password, active=True, fs_uniquifier=uuid.uuid4().hex)
                    for each in addresses
                ]
            )
            self.db.session.commit()

    def ask(self, address: str) -> None:
        answer = self.app.test_client().post("/reset", json={"email": address})
        assert answer.status_code == 200, answer.text

    def link(self, address: str) -> str:
        with self.app.app_context(), self.app.test_request_context():
            return generate_reset_password_token(self.datastore.find_user(email=address))

    def change(self, address: str, what: str) -> None:
        with self.app.app_context(), self.app.test_request_context():
            user = self.datastore.find_user(email=address)
            if what == "address":
                user.email = f"new.{address}"
                self.datastore.put(user)
            else:
                admin_change_password(user, "changed elsewhere", notify=False)
            self.datastore.commit()

    def prepare(self, token: str):
        client = self.app.test_client()

        def redeem(password: str) -> bool:
            answer = client.post(f"/reset/{token}", json={"password": password, "password_confirm": password})
            return answer.status_code == 200

        return redeem
