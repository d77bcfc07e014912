"""JAAS files: what Java 17 reads, and where this reader is stricter; and the users in them."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkpy.cli.serve import build_config
from zkpy.config import Config, load
from zkpy.config.jaas import _Token, parse_jaas
from zkpy.config.sasl import DIGEST_MODULE, read_users
from zkpy.errors import ConfigError

PROVIDER = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
KERBEROS = "com.sun.security.auth.module.Krb5LoginModule"


def options(text: str) -> dict[str, str]:
    """Of the one login module of the section Server."""
    (module,) = parse_jaas(text, "jaas.conf")["Server"]
    assert module.name == DIGEST_MODULE
    return {key: option.value for key, option in module.options.items()}


def server(written: str) -> str:
    return f"Server {{ {DIGEST_MODULE} required {written}; }};"


def test_the_usual_file() -> None:
    text = f"""
        // who may come in
        Server {{
            {DIGEST_MODULE} required
            user_super="adminsecret"
            user_bob="bobsecret";
        }};
        /* of no concern
           to the server */
        Client {{ {DIGEST_MODULE} required username="bob" password="bobsecret"; }};
    """
    assert options(text) == {"user_super": "adminsecret", "user_bob": "bobsecret"}
    assert list(parse_jaas(text, "jaas.conf")) == ["Server", "Client"]


@pytest.mark.parametrize("text", ["", " \n", "// only\n/* this */", "\ufeff"])
def test_nothing(text: str) -> None:
    assert parse_jaas(text, "jaas.conf") == {}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", {}),
        ("user_a=abc-d.e$f_g*h", {"user_a": "abc-d.e$f_g*h"}),
        ("user_a = \"x\"\n\nuser_b\r\n=\r\n'y'".replace("'", '"'), {"user_a": "x", "user_b": "y"}),
        ('"user_a@B"="x"', {"user_a@B": "x"}),
        (r'user_a="x\"y\\z\tq\101\60"', {"user_a": 'x"y\\z\tqA0'}),
        ('user_a="a$b{c} //d /*e*/ #;}="', {"user_a": "a$b{c} //d /*e*/ #;}="}),
        ('user_ä="ö日"', {"user_ä": "ö日"}),
        ('user_a="x" // c\n user_b="y" /* z */', {"user_a": "x", "user_b": "y"}),
        ('user_a=""', {"user_a": ""}),
        # White space is that of ASCII: anything else may be a part of a password.
        ("user_a=b\xa0c user_d=\u2003e", {"user_a": "b\xa0c", "user_d": "\u2003e"}),
    ],
)
def test_options_as_java_reads_them(written: str, expected: dict[str, str]) -> None:
    assert options(server(written)) == expected


def test_sections_and_flags() -> None:
    found = parse_jaas(f'"Server" {{ {DIGEST_MODULE} REQUIRED; A.B optional a=b; }}; B {{ }};', "f")
    assert [module.name for module in found["Server"]] == [DIGEST_MODULE, "A.B"]
    assert found["B"] == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# who\n" + server(""), "jaas.conf:1: # opens no comment; // does"),
        (server("\nuser_a=123"), "jaas.conf:2: this can be no part of a JAAS file"),
        (server("user_a=a@b"), "jaas.conf:1: this can be no part"),
        (server('user_a@B="x"'), "jaas.conf:1: this can be no part"),
        (server("user_a='x'"), "jaas.conf:1: this can be no part"),
        (server('user_a="x", user_b="y"'), "jaas.conf:1: this can be no part"),
        (server('user_a="x\ny"'), "jaas.conf:1: a string has to end on its line"),
        (server("user_a"), "jaas.conf:1: = is needed here"),
        (server('user_a="1"\nuser_a="2"'), "jaas.conf:2: user_a is given twice"),
        (server('\n/* user_a="1";\n}; //'), "jaas.conf:2: this comment is never closed"),
        ("/*/", "jaas.conf:1: this comment is never closed"),
        (server('user_a="1" / user_b="2"'), "jaas.conf:1: this can be no part"),
        (server("user_a=b\x85"), "jaas.conf:1: this can be no part"),
        (server("") + "\n" + server(""), "jaas.conf:2: there are two sections Server"),
        (f'Server {{ {DIGEST_MODULE} user_a="1"; }};', "one of required, requisite"),
        (f'Server {{ {DIGEST_MODULE} required user_a="x" }};', "jaas.conf:1: an option as key="),
        (f"Server {{ {DIGEST_MODULE} required; }}", "jaas.conf:1: the file ends where ; is"),
        ("Server", "jaas.conf:1: the file ends where { is needed"),
        ("{ };", "jaas.conf:1: the name of a section is needed here"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_jaas(text, "jaas.conf")
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "written", ['="hush-hush"', 'user_a="hush-hush', 'user_a "hush-hush"', 'user_a="hush-hush" =']
)
def test_an_error_tells_no_password(written: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_jaas(server(written), "jaas.conf")
    assert "hush" not in str(refused.value)


@given(st.text(alphabet='aS{}=;"\\/* \n$1@é#', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_jaas(text, "jaas.conf"), dict)


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1))
def test_a_quoted_password_comes_back(password: str) -> None:
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    assert options(server(f'user_a="{quoted}"')) == {"user_a": password}


# --- users ---------------------------------------------------------------------------


@pytest.fixture
def jaas(tmp_path: Path) -> Path:
    return write(tmp_path / "jaas.conf", server('user_super="adminsecret" user_bob="bobsecret"'))


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def config(jaas: Path, *options: str) -> Config:
    return without_file(jaas.parent, f"java.security.auth.login.config={jaas}", *options)


def without_file(directory: Path, *options: str) -> Config:
    return build_config(None, None, str(directory / "data"), options)


@pytest.mark.parametrize("prefix", ["", "zookeeper."])
def test_the_users_of_a_zoo_cfg(jaas: Path, prefix: str) -> None:
    cfg = write(
        jaas.parent / "zoo.cfg",
        f"dataDir={jaas.parent}/data\nclientPort=2181\n{PROVIDER}\n"
        f"{prefix}java.security.auth.login.config={jaas}\n{prefix}superUser.1=bob\nsuperUser=super\n"
        f"{prefix}allowSaslFailedClients=true\ntickTime=2000",
    )
    found = build_config(str(cfg), None, None, ())
    assert found.sasl_users == {"super": "adminsecret", "bob": "bobsecret"}
    assert set(found.sasl_super_users) == {"bob", "super"}
    assert found.sasl_scheme and found.sasl_keeps_failed
    assert found.warnings == ()


def test_an_empty_file_is_fine(jaas: Path) -> None:
    """ZooKeeper needs one where there are no users; with the provider somebody expects some."""
    found = config(write(jaas, "", 0o644))
    assert (found.sasl_users, found.warnings) == ({}, ())
    (said,) = config(jaas, PROVIDER, "superUser=bob").warnings
    assert said == f"{jaas}: nobody can authenticate by SASL: the file is empty"


def test_a_provider_without_a_file_is_warned_of(tmp_path: Path) -> None:
    (said,) = without_file(tmp_path, PROVIDER).warnings
    assert "nobody can authenticate by SASL" in said


@pytest.mark.parametrize(
    "option",
    ["superUser", "superUser.1", "SASLAuthenticationProvider.superPassword"],
)
def test_what_concerns_users_has_no_effect_without_a_file(tmp_path: Path, option: str) -> None:
    (said,) = without_file(tmp_path, f"{option}=hush").warnings
    assert said == (
        f"the command line: {option} has no effect without java.security.auth.login.config"
    )


def test_failed_clients_may_not_stay_without_a_file(tmp_path: Path) -> None:
    (said,) = without_file(tmp_path, "allowSaslFailedClients=true").warnings
    assert "allowSaslFailedClients has no effect without java.security" in said
    assert len(without_file(tmp_path, "allowSaslFailedClients=false", PROVIDER).warnings) == 1


def test_super_users_whom_the_file_does_not_have(jaas: Path) -> None:
    (said,) = config(jaas, PROVIDER, "superUser=bob", "superUser.2=hush").warnings
    assert said == f"the command line: superUser.2 has no effect: {jaas} has no such user"


def test_users_without_the_provider_are_warned_of(jaas: Path) -> None:
    (said,) = config(jaas).warnings
    assert "no ACL can name them" in said and PROVIDER in said


@pytest.mark.parametrize("missing", [False, True])
def test_commands_that_serve_nobody_need_no_users(jaas: Path, missing: bool) -> None:
    """The file is another user's, or given to the server by an option alone."""
    named = f"java.security.auth.login.config={jaas.parent}/nothing\n" if missing else ""
    text = f"dataDir={jaas.parent}/data\nclientPort=2181\n{PROVIDER}\n{named}"
    cfg = write(jaas.parent / "zoo.cfg", f"{text}sessionRequireClientSASLAuth=true\n")
    assert load(str(cfg)).required_schemes == ("sasl",)
    with pytest.raises(ConfigError, match="cannot be read" if missing else "nobody can"):
        build_config(str(cfg), None, None, ())


def test_another_section(jaas: Path) -> None:
    write(jaas, f'Zk {{ {DIGEST_MODULE} required user_a="b"; }};')
    assert config(jaas, "sasl.serverconfig=Zk").sasl_users == {"a": "b"}
    (said,) = config(jaas, PROVIDER).warnings
    assert said == f"{jaas}: there is no section Server, only Zk: SASL is not served"


@pytest.mark.parametrize("module", [KERBEROS, "org.example.Ldap"])
def test_no_other_login_module_is_taken_for_digest(jaas: Path, module: str) -> None:
    write(jaas, f'Server {{ {DIGEST_MODULE} required user_a="b";\n {module} required x=true; }};')
    with pytest.raises(ConfigError) as refused:
        config(jaas)
    assert str(refused.value).startswith(f"{jaas}:2: {module}: ")
    assert ("Kerberos is not" in str(refused.value)) == (module == KERBEROS)


@pytest.mark.parametrize("written", ['user_="x"', 'user_a=""'])
def test_a_user_has_a_name_and_a_password(jaas: Path, written: str) -> None:
    with pytest.raises(ConfigError, match="a name and a password are needed"):
        config(write(jaas, server(written)))


def test_a_password_is_no_property(jaas: Path) -> None:
    """Nor judged where it is none: the client's section is its own business."""
    other = f'Client {{ {KERBEROS} required keyTab="${{user.home}}/k"; }};'
    found = config(write(jaas, server('user_a="b" x="${y}"') + other), PROVIDER)
    assert found.sasl_users == {"a": "b"}
    with pytest.raises(ConfigError, match=r"jaas.conf:1: user_a: \$\{\.\.\.\} is not replaced"):
        config(write(jaas, server('user_a="${user.dir}"')))


def test_a_piece_of_a_password_is_not_shown(jaas: Path) -> None:
    """Without quotes it ends early, and its rest is taken for an option."""
    found = config(write(jaas, server("user_bob=hun_ter pass=word")), PROVIDER)
    assert found.sasl_users == {"bob": "hun_ter"}
    assert found.warnings == (f"{jaas}:1: an option that is no user_NAME has no effect",)
    with pytest.raises(ConfigError, match=":1: an option is given twice"):
        config(write(jaas, server("user_bob=hun_ter pass=word pass=word")))


def test_a_user_is_not_in_two_modules(jaas: Path) -> None:
    module = f'{DIGEST_MODULE} required user_a="b"; '
    with pytest.raises(ConfigError, match="user_a is given twice"):
        config(write(jaas, f"Server {{ {module * 2} }};"))


def test_files_that_cannot_be_read(jaas: Path) -> None:
    with pytest.raises(ConfigError, match="it cannot be read"):
        config(jaas.parent / "nothing")
    with pytest.raises(ConfigError, match="without a null character"):
        config(jaas.parent / "a\0b")
    jaas.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        config(jaas)


def test_what_is_warned_of(jaas: Path) -> None:
    found = read_users(str(write(jaas, server('user_a="b" username=c'), 0o644)), "Server", None)
    assert found.warnings == [
        f"{jaas}:1: username that is no user_NAME has no effect",
        f"{jaas}: everybody on this machine can read the passwords in it",
    ]
    (said,) = read_users(str(write(jaas, server(""))), "Server", None).warnings
    assert "has no user" in said


def test_the_super_password_replaces_one_in_the_file(jaas: Path) -> None:
    """And makes no user, as in ZooKeeper 3.9.5."""
    key = "SASLAuthenticationProvider.superPassword"
    found = config(jaas, f"{key}=other")
    assert found.sasl_users == {"super": "other", "bob": "bobsecret"}
    found = config(write(jaas, server('user_bob="bobsecret"')), f"{key}=other")
    assert found.sasl_users == {"bob": "bobsecret"}
    assert [said for said in found.warnings if said.startswith(f"{key} has no effect")]


def test_all_clients_have_to_be_users(jaas: Path) -> None:
    required = "sessionRequireClientSASLAuth=true"
    assert config(jaas, PROVIDER, required).required_schemes == ("sasl",)
    schemes = ("enforce.auth.enabled=true", "enforce.auth.schemes=sasl")
    assert config(jaas, PROVIDER, *schemes).required_schemes == ("sasl",)
    with pytest.raises(ConfigError, match=r"needs authProvider\.1="):
        config(jaas, required)
    with pytest.raises(ConfigError, match="nobody can"):
        config(write(jaas, ""), PROVIDER, required)


@pytest.mark.parametrize("text", ["", "A { };", "Server { };"])
def test_users_are_all_that_may_come_in(jaas: Path, text: str) -> None:
    """However often it is said; where there is another way there is a warning."""
    write(jaas, text)
    for schemes in ("sasl", "sasl,sasl"):
        with pytest.raises(ConfigError, match="nobody can"):
            config(jaas, PROVIDER, "enforce.auth.enabled=true", f"enforce.auth.schemes={schemes}")
    both = ("enforce.auth.enabled=true", "enforce.auth.schemes=sasl,digest")
    assert len(config(jaas, PROVIDER, *both).warnings) == 1


def test_passwords_are_not_shown(jaas: Path) -> None:
    found = config(jaas, PROVIDER, "SASLAuthenticationProvider.superPassword=other-secret")
    users = read_users(str(jaas), "Server", "other-secret")
    module = parse_jaas(jaas.read_text(), "f")["Server"]
    token = _Token("text", "secret", "f:1")
    for shown in (repr(found), repr(users), repr(module), repr(token), *found.warnings):
        assert "secret" not in shown


@pytest.mark.parametrize(
    "key",
    [
        "SASLAuthenticationProvider.superPassword",
        "DigestAuthenticationProvider.superDigest",
    ],
)
def test_secrets_that_are_not_utf_8_are_refused(jaas: Path, key: str) -> None:
    """As Python has the bytes of a command line: they ended the start, or an auth later."""
    with pytest.raises(ConfigError) as refused:
        config(jaas, f"{key}=\udcff\udcfe")
    assert str(refused.value) == f"-D: {key}: a value in UTF-8 is needed"
