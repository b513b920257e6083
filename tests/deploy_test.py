# SPDX-License-Identifier: Apache-2.0
"""What deploy/ ships, read only: that it says what the program needs. tests/stack runs it."""

import re
import shutil
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "sluice.service"
NGINX = DEPLOY / "nginx" / "matrix.conf"
SNIPPET = DEPLOY / "nginx" / "sluice.conf"
CADDY = DEPLOY / "caddy" / "Caddyfile"
HAPROXY = DEPLOY / "haproxy" / "haproxy.cfg"
PROXIES = [NGINX, CADDY, HAPROXY]
DOCKER = DEPLOY / "docker"
PAGES = [ROOT / "docs" / name for name in ("install.md", "reverse-proxy.md", "homeserver.md")]

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def in_seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text).groups()
    return int(number) * UNITS[unit]


def defaults():
    """Each key of the configuration with its default, from the page that the program's own tests hold to be complete."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    return dict(re.findall(r"^\| `([\w.\[\]]+)` \| ?`?([^`|]*?)`? ?\|", text, re.MULTILINE))


def default_seconds(key):
    return in_seconds(defaults()[key])


def values(path, name):
    """Every value that the proxy's configuration gives to a directive; comments do not count."""
    lines = [line.split(" #")[0].strip().rstrip(";") for line in path.read_text().splitlines()]
    return [line[len(name):].strip() for line in lines if re.match(re.escape(name) + r"(\s|$)", line)]


def tool(name):
    """A program of the machine, or of the environment that ./dev test --stack makes."""
    found = shutil.which(name, path=f"{ROOT / 'build/stack/venv/bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---- The proxies ----


@pytest.mark.parametrize("path", PROXIES, ids=lambda path: path.parent.name)
def test_a_proxy_names_both_servers_where_they_listen_by_default(path):
    text = path.read_text()
    assert defaults()["listen"] == "127.0.0.1:8090"
    for name in ("127.0.0.1:8090", "127.0.0.1:8008", "matrix.example.org", "/_matrix/media/", "/_matrix/client/v1/media/"):
        assert name in text, name


@pytest.mark.parametrize("path, names", [
    (NGINX, ["proxy_read_timeout", "proxy_send_timeout", "client_body_timeout", "send_timeout"]),
    (SNIPPET, ["proxy_read_timeout", "proxy_send_timeout", "client_body_timeout", "send_timeout"]),
    (HAPROXY, ["timeout client", "timeout server"]),
], ids=["nginx", "snippet", "haproxy"])
def test_a_proxy_is_more_patient_than_sluice(path, names):
    patience = max(map(default_seconds, ["downloads.max_wait", "http.body_timeout", "http.write_timeout"]))
    for name in names:
        assert values(path, name), name
        assert all(in_seconds(value) > patience for value in values(path, name)), name


@pytest.mark.parametrize("path, name", [(NGINX, "keepalive_timeout"), (CADDY, "keepalive")], ids=["nginx", "caddy"])
def test_a_proxy_closes_its_idle_connections_first(path, name):
    [told] = values(path, name)
    assert in_seconds(told) < default_seconds("http.idle_timeout")


def test_nginx_holds_nothing_back():
    for name in ("proxy_request_buffering", "proxy_buffering", "gzip"):
        assert f"{name} off;" in nginx_location("= /sluice") and values(NGINX, name) == ["off"], name
    assert values(NGINX, "client_max_body_size") == ["0", "50m"] and "50m" in nginx_location("= /synapse")
    assert values(NGINX, "proxy_http_version") == ["1.1"]
    assert values(NGINX, "proxy_set_header X-Forwarded-For") == ["$remote_addr"]


def test_the_snippet_passes_media_on_as_the_whole_file_does():
    whole = nginx_location("= /sluice") + NGINX.read_text().split("    client_header_timeout")[1].split("    location / {")[0]
    for name in ("proxy_request_buffering", "proxy_buffering", "proxy_buffer_size", "proxy_buffers", "gzip", "proxy_http_version",
                 "proxy_send_timeout", "proxy_read_timeout", "client_body_timeout", "send_timeout", "client_max_body_size",
                 "proxy_set_header Host", "proxy_set_header X-Forwarded-For", "proxy_set_header X-Forwarded-Proto"):
        [told] = values(SNIPPET, name)
        assert re.search(rf"^ +{re.escape(f'{name} {told};')}", whole, re.MULTILINE), name
    assert values(SNIPPET, "proxy_pass") == [f"http://{defaults()['listen']}$request_uri"]


def test_nginx_passes_on_what_it_chose_by():
    assert values(NGINX, "proxy_pass") == ["http://matrix_sluice$request_uri", "http://matrix_synapse$request_uri"]
    assert {line.split("$")[1].split(" ")[0] for line in values(NGINX, "map")} == {"request_uri"}
    for name in ("= /sluice", "= /synapse"):  # no client may name them
        assert "internal;" in nginx_location(name)


def nginx_location(name):
    return re.search(rf"^    location {re.escape(name)} {{\n(.*?)^    }}", NGINX.read_text(), re.MULTILINE | re.DOTALL)[1]


def test_haproxy_replaces_what_a_client_claims():
    assert values(HAPROXY, "http-request set-header X-Forwarded-For") == ["%[src]"]
    assert not values(HAPROXY, "option forwardfor")
    backends = HAPROXY.read_text().split("\nbackend ")
    assert ["option http-buffer-request" in section for section in backends] == [False, False, True]  # Synapse's alone


def test_caddy_does_not_keep_the_places_of_those_who_left():
    assert values(CADDY, "flush_interval") == ["1ms"]
    assert not values(CADDY, "request_buffers") and not values(CADDY, "buffer_requests")


@pytest.mark.parametrize("path", [*PROXIES, SNIPPET], ids=lambda path: path.stem)
def test_new_media_is_told_by_the_length_of_its_id(path):
    [characters] = re.findall(r"kMediaIdLength = (\d+);", (ROOT / "src/repository/media_id.h").read_text())
    lengths = set(re.findall(r"\[A-Za-z0-9_-\]\{(\d+)\}", path.read_text()))
    assert lengths == {characters}


def test_caddy_is_configured_through_no_port():
    assert values(CADDY, "admin") == ["unix//var/lib/caddy/admin.sock"]


def test_caddy_chooses_by_what_it_passes_on():
    matchers = re.findall(r"^\t@(\w+) (.*?) \^", CADDY.read_text(), re.MULTILINE)
    assert matchers == [(name, "vars_regexp {http.request.uri}") for name in ("all_media", "new_media", "homeserver")]


@pytest.mark.parametrize("path, name", [(NGINX, "client_header_timeout"), (CADDY, "read_header"),
                                        (HAPROXY, "timeout http-request")], ids=["nginx", "caddy", "haproxy"])
def test_a_slow_head_is_not_waited_for(path, name):
    [told] = values(path, name)
    assert in_seconds(told) == 15


def test_caddy_reads_its_file():
    caddy = tool("caddy")
    told = run(caddy, "adapt", "--adapter", "caddyfile", "--config", str(CADDY))
    assert told.returncode == 0, told.stderr
    assert run(caddy, "fmt", str(CADDY)).stdout == CADDY.read_text()


# ---- systemd ----

SANDBOX = """DynamicUser=yes NoNewPrivileges=yes ProtectSystem=strict ProtectHome=yes PrivateDevices=yes PrivateTmp=yes
    MemoryDenyWriteExecute=yes CapabilityBoundingSet= StateDirectory=sluice StateDirectoryMode=0700 UMask=0077
    RuntimeDirectory=sluice RuntimeDirectoryMode=0700 EnvironmentFile=-/etc/sluice/secrets.env
    SystemCallFilter=@system-service IPAddressDeny=any IPAddressAllow=localhost""".split()


def unit_values(name):
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", SANDBOX)
def test_the_unit_has(line):
    assert line in UNIT.read_text().splitlines()


def test_the_unit_lets_transfers_finish():
    assert in_seconds(unit_values("TimeoutStopSec")[0]) > default_seconds("shutdown_grace") + 5  # cut connections: 5 s


def test_a_reload_reads_what_a_start_would():
    copy, tell = unit_values("ExecReload")
    assert unit_values("ExecStartPre") == [copy] and tell == "/bin/kill -HUP $MAINPID"
    assert unit_values("ExecStart")[0].endswith(" serve --config " + copy.split()[-1])


def test_the_unit_lets_sluice_speak_to_the_network_and_nothing_else():
    assert unit_values("RestrictAddressFamilies") == ["AF_INET AF_INET6 AF_UNIX"]


def test_the_unit_does_not_count_cached_files():
    assert not unit_values("MemoryMax") and not unit_values("MemoryHigh")
    assert unit_values("LimitDATA") and unit_values("TasksMax")


def test_systemd_understands_the_unit(tmp_path):
    analyze = tool("systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/sluice", "/bin/true"))  # it has to exist
    told = run(analyze, "verify", "--man=no", str(copy))
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_the_unit_is_exposed_little():
    told = run(tool("systemd-analyze"), "security", "--offline=true", "--threshold=14", "--no-pager", str(UNIT))
    level = re.search(r"exposure level for sluice\.service: (\d+\.\d)", told.stdout)
    assert level, told
    assert float(level[1]) < 1.5 and told.returncode == 0, told.stdout


# ---- Containers ----


def test_the_image_runs_as_nobody_and_says_how_it_is():
    text = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^USER [1-9]", text, re.MULTILINE)
    for instruction in ("HEALTHCHECK", "VOLUME /var/lib/sluice", "EXPOSE 8090", "COPY --from=build"):
        assert instruction in text, instruction
    assert "/health" in text and "curl " not in text


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_what_is_not_run_says_so(name):
    assert "not run" in "".join((DOCKER / name).read_text().splitlines()[:2])


def test_containers_get_as_long_to_stop_as_the_unit():
    grace = re.search(r"stop_grace_period: (\w+)", (DOCKER / "compose.yaml").read_text())[1]
    assert in_seconds(grace) == in_seconds(unit_values("TimeoutStopSec")[0])


# What the image is built from. More belongs here only if ./dev build needs it.
SOURCES = {"CMakeLists.txt", "CMakePresets.json", "dev", "src"}


def copied():
    """What the Dockerfile takes out of the build context."""
    lines = re.findall(r"^(?:COPY|ADD) (.*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    return {source for line in lines if "--from=" not in line for source in line.split()[:-1]}


def goes_to_the_build(path):
    """What docker makes of Dockerfile.dockerignore, whose patterns are plain names here: the last one that fits counts."""
    goes = True
    for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if pattern and not line.startswith("#") and (pattern == "*" or path == pattern or path.startswith(pattern + "/")):
            goes = line.startswith("!")
    return goes


def test_the_image_is_built_from_the_sources_alone():
    assert copied() == SOURCES
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split():
        assert goes_to_the_build(name) == (name.split("/")[0] in SOURCES), name


@pytest.mark.parametrize("path", [
    "deploy/docker/synapse/example.org.signing.key", "deploy/docker/synapse/homeserver.db", "deploy/docker/sluice.yaml",
    "deploy/docker/certificates/live/matrix.example.org/privkey.pem", "deploy/docker/matrix.conf", "sluice-data/token",
    "build/release/sluice", ".git/config", ".env", "srcs/x"])
def test_no_secret_goes_to_the_build(path):
    assert not goes_to_the_build(path)


def test_only_nginx_is_believed_among_the_containers():
    text = (DOCKER / "compose.yaml").read_text()
    address = ip_address(re.search(r"ipv4_address: (\S+)", text)[1])
    assert re.search(r"trusted_proxies: \[(\S+)\]", text)[1] == f"{address}/32"
    subnet, others = (ip_network(re.search(rf"{name}: (\S+)", text)[1]) for name in ("subnet", "ip_range"))
    assert address in subnet and others.subnet_of(subnet) and address not in others


def test_hadolint_likes_the_dockerfile():
    told = run(tool("hadolint"), "--no-color", str(DOCKER / "Dockerfile"))
    assert told.returncode == 0, told.stdout


def test_yamllint_likes_the_compose_file():
    rules = "{extends: default, rules: {line-length: {max: 160}, document-start: disable}}"
    told = run(tool("yamllint"), "-s", "-d", rules, str(DOCKER / "compose.yaml"))
    assert told.returncode == 0, told.stdout


# ---- The pages about it ----


def test_the_page_names_the_libraries_of_the_image():
    image = re.search(r"--no-install-recommends \\\n(.*?)&&", (DOCKER / "Dockerfile").read_text(), re.DOTALL)[1]
    page = re.search(r"--no-install-recommends (.*?)\n\n", PAGES[0].read_text(), re.DOTALL)[1]
    assert page.replace("\\", "").split() == image.replace("\\", "").split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_keys_that_exist(page):
    sections = {key.split(".")[0] for key in defaults() if "." in key}
    named = set(re.findall(rf"`((?:{'|'.join(map(re.escape, sections))})\.\w+)\b", page.read_text()))
    assert named <= set(defaults()), named - set(defaults())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_to_what_is_there(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        if "://" in target:
            continue
        file = (page.parent / target) if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings], anchor
