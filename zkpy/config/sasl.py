"""Who may authenticate by SASL: the users in the JAAS file that a configuration names.

`java.security.auth.login.config` is the file, and `sasl.serverconfig` the section in it; each
option `user_NAME="PASSWORD"` of its DigestLoginModule is a user.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from zkpy.config.build import Config
from zkpy.config.jaas import USER, LoginModule, parse_jaas, show_option
from zkpy.config.keys import SASL_PROVIDER
from zkpy.errors import ConfigError

DIGEST_MODULE: Final = "org.apache.zookeeper.server.auth.DigestLoginModule"
SUPER: Final = "super"
"""The user that `SASLAuthenticationProvider.superPassword` concerns."""
JAAS_KEY: Final = "java.security.auth.login.config"
_NEEDS_DIGEST: Final = f"only {DIGEST_MODULE} is supported"


@attrs.frozen
class JaasUsers:
    passwords: dict[str, str] = attrs.field(repr=False)
    warnings: list[str]


def with_users(config: Config) -> Config:
    """With the users in its JAAS file; there must be some if all clients have to be one.

    Raises ConfigError as `read_users` does, and if there have to be users and are none.
    """
    if config.jaas_file:
        found = read_users(config.jaas_file, config.jaas_section, config.sasl_super_password)
    else:
        found = JaasUsers({}, [])
    if set(config.required_schemes) == {"sasl"} and not found.passwords:
        raise ConfigError(
            f"{config.source}: clients have to authenticate by SASL, and nobody can: "
            f"{JAAS_KEY} has to name a JAAS file with users"
        )
    said = _judge_users(config, found) if config.jaas_file else _judge_without_file(config)
    warnings = (*config.warnings, *found.warnings, *said)
    return attrs.evolve(config, sasl_users=found.passwords, warnings=warnings)


def _judge_without_file(config: Config) -> Iterator[str]:
    if config.sasl_scheme:
        # In ZooKeeper's installations the key is often an option of the JVM, and not in zoo.cfg.
        yield (
            f"{config.source}: nobody can authenticate by SASL: {JAAS_KEY}, in zoo.cfg or as -D, "
            "names the file with the users"
        )
    keys = _super_keys(config)
    if config.sasl_super_password:
        keys.append("SASLAuthenticationProvider.superPassword")
    if config.sasl_keeps_failed:
        keys.append("allowSaslFailedClients")
    for key in keys:
        yield f"{config.source}: {key} has no effect without {JAAS_KEY}"


def _judge_users(config: Config, found: JaasUsers) -> Iterator[str]:
    """What the rest of the configuration makes of the users that were found."""
    if not found.passwords:
        if config.sasl_scheme and not found.warnings:
            yield f"{config.jaas_file}: nobody can authenticate by SASL: the file is empty"
        return
    if not config.sasl_scheme:
        yield (
            f"{config.source}: users of SASL may authenticate, but no ACL can name them: "
            f"authProvider.1={SASL_PROVIDER} is missing"
        )
    for key in _super_keys(config):
        if config.properties[key] not in found.passwords:
            yield f"{config.source}: {key} has no effect: {config.jaas_file} has no such user"


def _super_keys(config: Config) -> list[str]:
    return [key for key in config.properties if key == "superUser" or key.startswith("superUser.")]


def read_users(path: str, section: str, super_password: str | None) -> JaasUsers:
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
    return JaasUsers(passwords, warnings)


def _users_of(modules: Iterable[LoginModule], warnings: list[str]) -> dict[str, str]:
    passwords: dict[str, str] = {}
    for module in modules:
        if module.name != DIGEST_MODULE:
            kerberos = "Kerberos is not: " if "krb5" in module.name.lower() else ""
            raise ConfigError(f"{module.where}: {module.name}: {kerberos}{_NEEDS_DIGEST}")
        for key, option in module.options.items():
            if not key.startswith(USER):
                shown = show_option(key)
                warnings.append(f"{option.where}: {shown} that is no {USER}NAME has no effect")
                continue
            user = key.removeprefix(USER)
            if "${" in option.value:
                raise ConfigError(
                    f"{option.where}: {key}: ${{...}} is not replaced by a property here"
                )
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
            f"the JAAS file has no {USER}{SUPER}"
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
