"""Who may authenticate by SASL: the users in the JAAS file that a configuration names.

`java.security.auth.login.config` is the file, and `sasl.serverconfig` the section in it; each
option `user_NAME="PASSWORD"` of its DigestLoginModule is a user.
"""

import os
import stat
from collections.abc import Iterable
from typing import Final

import attrs

from zkpy.config.jaas import LoginModule, parse_jaas
from zkpy.errors import ConfigError

DIGEST_MODULE: Final = "org.apache.zookeeper.server.auth.DigestLoginModule"
SUPER: Final = "super"
"""The user that `SASLAuthenticationProvider.superPassword` concerns."""
_USER: Final = "user_"
_NEEDS_DIGEST: Final = f"only {DIGEST_MODULE} is supported"


@attrs.frozen
class SaslUsers:
    passwords: dict[str, str] = attrs.field(repr=False)
    warnings: list[str]


def read_users(path: str, section: str, super_password: str | None) -> SaslUsers:
    """The users of `section` in the JAAS file `path`; none if the file is empty.

    Raises ConfigError for a file that cannot be read or understood, and for a section that
    asks for anything but DIGEST-MD5, such as Kerberos: nobody is let in by less than that.
    """
    sections = parse_jaas(_read(path), path)
    warnings: list[str] = []
    passwords: dict[str, str] = {}
    if section in sections:
        passwords = _users_of(sections[section], warnings)
        if not passwords:
            warnings.append(f'{path}: the section {section} has no user (user_NAME="PASSWORD")')
        elif _is_for_all(path):
            warnings.append(f"{path}: everybody on this machine can read the passwords in it")
    elif sections:
        there = ", ".join(sections)
        warnings.append(f"{path}: there is no section {section}, only {there}: SASL is not served")
    if super_password:
        _set_super(passwords, super_password, warnings)
    return SaslUsers(passwords, warnings)


def _users_of(modules: Iterable[LoginModule], warnings: list[str]) -> dict[str, str]:
    passwords: dict[str, str] = {}
    for module in modules:
        if module.name != DIGEST_MODULE:
            kerberos = "Kerberos is not: " if "krb5" in module.name.lower() else ""
            raise ConfigError(f"{module.where}: {module.name}: {kerberos}{_NEEDS_DIGEST}")
        for key, option in module.options.items():
            user = key.removeprefix(_USER)
            if user == key:
                warnings.append(f"{option.where}: {key} has no effect in this section")
                continue
            if not user or not option.value:
                raise ConfigError(f"{option.where}: {key}: a name and a password are needed")
            if user in passwords:
                raise ConfigError(f"{option.where}: {key} is given twice")
            passwords[user] = option.value
    return passwords


def _set_super(passwords: dict[str, str], password: str, warnings: list[str]) -> None:
    """As ZooKeeper: it replaces the password of a user that the file has to name."""
    if SUPER in passwords:
        passwords[SUPER] = password
    else:
        warnings.append(
            "SASLAuthenticationProvider.superPassword has no effect: "
            f"the JAAS file has no {_USER}{SUPER}"
        )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as why:
        raise ConfigError(f"{path}: it cannot be read: {why.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: it is not UTF-8") from None


def _is_for_all(path: str) -> bool:
    return bool(os.stat(path).st_mode & stat.S_IROTH)
