# SPDX-License-Identifier: Apache-2.0
"""docs/install.md, followed word by word: its sh blocks are run in their order, and show what its text blocks say.

They run as root in a private root: /etc, /var/lib and /usr/local/bin are the test's own, and so is the network, so the
ports and names are those of the document. What stands in for something is below, and nothing else: `./dev build` takes
the binary that is there, `systemctl` runs what the installed unit says, and the access token is put in."""

import os
import re
import shlex
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from harness import BINARY, REPOSITORY, clean_environment, seconds

DOCUMENT = REPOSITORY / "docs" / "install.md"
TOKEN_LINE = "read -rsp 'Access token: ' TOKEN"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "=== block "

DEV = """#!/bin/sh
# In the place of ./dev: the build has been done.
[ "$*" = build ] && install -D -t build/release "$BUILT_SLUICE" "$BUILT_SLUICE-thumbnailer"
"""

# In the place of systemd, which would need to be the first process of a machine: runs what the unit files say, as root.
SYSTEMCTL = r"""#!/bin/bash
set -eu
verb=$1
shift
[ "$verb" = daemon-reload ] && exit
[ "${1:-}" = --now ] && shift
name=$1

of_unit() { sed -n "s/^$1=//p" "/etc/systemd/system/$name.service"; }

wait_for() { # until it answers, as Type=notify does
  for _ in $(seq 600); do curl -fsS "$1" > /dev/null 2>&1 && return; sleep 0.05; done
  echo "$name does not answer at $1" >&2
  exit 1
}

start() {
  case $name in
    nginx) nginx ;;
    sluice)
      RUNTIME_DIRECTORY=$ROOT/run/$(of_unit RuntimeDirectory)
      export RUNTIME_DIRECTORY
      install -d -m "$(of_unit RuntimeDirectoryMode)" "$RUNTIME_DIRECTORY"
      prepare=$(of_unit ExecStartPre)
      eval "${prepare#+}"
      install -d -m "$(of_unit StateDirectoryMode)" "/var/lib/$(of_unit StateDirectory)"
      command=$(of_unit ExecStart)
      (umask "$(of_unit UMask)"; eval "exec $command") > "$ROOT/sluice.log" 2>&1 < /dev/null &
      echo $! > "$ROOT/sluice.pid" ;;
    matrix-synapse)
      "$PYTHON" -m synapse.app.homeserver -c /etc/matrix-synapse/homeserver.yaml -c /etc/matrix-synapse/conf.d \
        > "$ROOT/synapse.log" 2>&1 < /dev/null &
      echo $! > "$ROOT/matrix-synapse.pid"
      wait_for http://127.0.0.1:8008/health ;;
  esac
}

stop() {
  pid=$(cat "$ROOT/$name.pid")
  kill "$pid"
  while kill -0 "$pid" 2> /dev/null; do sleep 0.05; done
}

case $verb in
  enable | start) start ;;
  disable | stop) stop ;;
  restart) stop; start ;;
  reload) # is over when the old worker, which still takes connections for a moment, has gone
    gone() { grep -c "worker process .* exited" "$ROOT/nginx.log" || true; }
    before=$(gone)
    nginx -s reload 2> /dev/null
    while [ "$(gone)" = "$before" ]; do sleep 0.05; done ;;
  *) exit 1 ;;
esac
"""

NGINX_MAIN = """
user root;
worker_processes 1;
pid ROOT/nginx.pid;
error_log ROOT/nginx.log notice;
events { worker_connections 768; }
http { access_log off; include /etc/nginx/sites-enabled/*; }
"""

# A site as administrators have it: more than Matrix, and Matrix on two ports.
NGINX_BEFORE = """
server {
    listen 80;
    server_name example.org matrix.example.org;
    location /.well-known/acme-challenge/ { root /etc/nginx/acme; }
    location / { return 301 https://$host$request_uri; }
}

server {
    listen 443 ssl http2;
    listen 8448 ssl http2 default_server;
\tserver_name  example.org matrix.example.org;

    ssl_certificate /etc/letsencrypt/live/matrix.example.org/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/matrix.example.org/privkey.pem;

    location /.well-known/acme-challenge/ { root /etc/nginx/acme; }
    location = /.well-known/matrix/client {
        default_type application/json;
        return 200 '{"m.homeserver": {"base_url": "https://matrix.example.org"}}';
    }
    location = /.well-known/matrix/server {
        default_type application/json;
        return 200 '{"m.server": "matrix.example.org:8448"}';
    }
    location / { return 200 "the page of Element"; }

    # As Synapse's documentation has it.
    location ~ ^(/_matrix|/_synapse/client) {
        proxy_pass http://localhost:8008;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Host $host:$server_port;
        client_max_body_size 50M;
        proxy_http_version 1.1;
    }
}
"""

# What the site answers to whom, asked at four moments: before, with new media only, with all media, after going back.
PROBE = r"""
ask() { curl -s -w ' %{http_code} %{redirect_url}\n' -H "Authorization: Bearer $(cat "$ROOT/token")" "$@"; }
upload() { ask --data-binary "$1" "$2/_matrix/media/v3/upload" | sed 's/.*"mxc:..\([^"]*\)".*/\1/'; }
probe() {
  mkdir -p "$ROOT/asked/$1"
  sha256sum < /etc/nginx/sites-enabled/matrix > "$ROOT/asked/$1/site"
  stat -c '%F %a %U' /etc/nginx/sites-enabled/matrix >> "$ROOT/asked/$1/site"
  for base in http://matrix.example.org https://matrix.example.org https://matrix.example.org:8448 https://example.org; do
    for path in / /.well-known/acme-challenge/x /.well-known/matrix/client /.well-known/matrix/server \
        /_matrix/client/versions /_matrix/federation/v1/version /_matrix/key/v2/nothing /_matrix/client/v3/account/whoami \
        /_synapse/client/nothing /_synapse/admin/v1/server_version; do
      echo "$base$path $(ask "$base$path")"
    done
  done > "$ROOT/asked/$1/other"
  for base in https://matrix.example.org https://matrix.example.org:8448; do
    echo "config $(ask $base/_matrix/client/v1/media/config)"
    mxc=$(upload "of $1" $base)
    [ "$1" != before ] || echo "$mxc" > "$ROOT/old"
    echo "id $(echo -n "${mxc#*/}" | wc -c)"
    echo "own $(ask "$base/_matrix/client/v1/media/download/$mxc")"
    echo "old $(ask "$base/_matrix/client/v1/media/download/$(cat "$ROOT/old")" | tail -1)"
    echo "federation $(ask "$base/_matrix/federation/v1/media/download/nothing" | cut -c 1-40)"
  done > "$ROOT/asked/$1/media"
}
"""

HOMESERVER = """
server_name: example.org
listeners:
  - {port: 8008, type: http, bind_addresses: [127.0.0.1], x_forwarded: true, resources: [{names: [client, federation]}]}
database: {name: sqlite3, args: {database: /var/lib/matrix-synapse/homeserver.db}}
media_store_path: /var/lib/matrix-synapse/media
signing_key_path: /etc/matrix-synapse/homeserver.signing.key
pid_file: /var/lib/matrix-synapse/pid
trusted_key_servers: []
registration_shared_secret: of the test
macaroon_secret_key: of the test
report_stats: false
"""

# A machine as it is before: Synapse with its media repository behind nginx, a user with a token.
PREPARE = r"""
set -eu
mkdir -p "$ROOT"/{etc,lib,before} /var/lib
mount -t tmpfs -o mode=755 etc "$ROOT/etc"  # there are passwords and keys in it: gone with this namespace
cp -a /etc/. "$ROOT/etc" 2> /dev/null || true
mount --bind "$ROOT/etc" /etc
mount --bind "$ROOT/lib" /var/lib
mount --bind /usr/local/bin "$ROOT/before"
mount --bind "$ROOT/bin" /usr/local/bin
for program in "$ROOT"/before/*; do
  [ -e "/usr/local/bin/${program##*/}" ] || ln -s "$program" /usr/local/bin/
done
hash -r
"$PYTHON" - <<'END'
import fcntl, socket, struct
with socket.socket() as any_socket:  # the network's own loopback, up
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x41))
END

rm -rf /etc/nginx /etc/matrix-synapse /etc/sluice /etc/systemd/system/sluice.service
mkdir -p /etc/nginx/sites-enabled /etc/matrix-synapse/conf.d /etc/systemd/system
mkdir -p /var/lib/matrix-synapse /var/lib/nginx /etc/letsencrypt/live/matrix.example.org
mkdir -p /etc/nginx/acme/.well-known/acme-challenge
echo -n proof > /etc/nginx/acme/.well-known/acme-challenge/x
printf '127.0.0.1 localhost example.org matrix.example.org\n' > /etc/hosts
printf 'hosts: files\n' > /etc/nsswitch.conf
sed "s|ROOT|$ROOT|" "$ROOT/nginx.conf" > /etc/nginx/nginx.conf
install -m 640 "$ROOT/before.conf" /etc/nginx/sites-enabled/matrix
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=matrix.example.org \
  -addext subjectAltName=DNS:matrix.example.org,DNS:example.org -keyout /etc/letsencrypt/live/matrix.example.org/privkey.pem \
  -out /etc/letsencrypt/live/matrix.example.org/fullchain.pem 2> /dev/null
export CURL_CA_BUNDLE=/etc/letsencrypt/live/matrix.example.org/fullchain.pem
cp "$ROOT/homeserver.yaml" /etc/matrix-synapse/homeserver.yaml
"$PYTHON" -m synapse.app.homeserver -c /etc/matrix-synapse/homeserver.yaml --generate-keys 2> /dev/null
systemctl start matrix-synapse
systemctl start nginx
"$PYTHON" -m synapse._scripts.register_new_matrix_user -u alice -p secret --no-admin -c /etc/matrix-synapse/homeserver.yaml \
  http://127.0.0.1:8008 > /dev/null
curl -fsS -X POST https://matrix.example.org/_matrix/client/v3/login -d \
  '{"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "secret"}' |
  sed 's/.*"access_token":"\([^"]*\)".*/\1/' > "$ROOT/token"
cd "$ROOT/checkout"
"""


def blocks():
    """The document's sh blocks in their order, each with the text block that follows it, or None."""
    found = BLOCK.findall(DOCUMENT.read_text())
    result = []
    for kind, content in found:
        if kind == "sh":
            result.append([content, None])
        else:
            assert result and result[-1][1] is None, f"this text block follows no sh block:\n{content}"
            result[-1][1] = content
    return result


def have_private_root():
    probe = subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "probe", "/mnt"], capture_output=True, check=False)
    return probe.returncode == 0


UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
if os.getuid() != 0:
    UNSHARE.append("--map-root-user")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("install")


@pytest.fixture(scope="module")
def shown(root):
    """What each block showed."""
    if not have_private_root():
        pytest.skip("this machine allows no namespaces")
    files = {"bin/systemctl": SYSTEMCTL, "checkout/dev": DEV, "nginx.conf": NGINX_MAIN, "before.conf": NGINX_BEFORE,
             "homeserver.yaml": HOMESERVER, "script": script()}
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)
        (root / name).chmod(0o755)
    (root / "checkout/deploy").symlink_to(REPOSITORY / "deploy")
    environment = clean_environment({"ROOT": str(root), "PYTHON": sys.executable, "BUILT_SLUICE": str(BINARY),
                                     "PATH": f"/usr/local/bin:{root}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"})
    ran = subprocess.run([*UNSHARE, "bash", str(root / "script")], env=environment, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds(60), check=False,
                         cwd=root)
    logs = "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in root.glob("*.log"))
    assert ran.returncode == 0, f"a step failed ({ran.returncode}):\n{ran.stdout}\n{logs}"
    return re.split(rf"^{MARK}\d+\n", ran.stdout, flags=re.MULTILINE)[1:]


# Before which of the document's lines is asked.
PROBES = {"new": "sed -i 's/# | media/| media/' /etc/nginx/snippets/sluice.conf", "all": 'cp $BACKUP "$SITE"'}


def script():
    parts = [PREPARE, "set -o pipefail\n", PROBE, "probe before\n"]
    for number, (commands, _) in enumerate(blocks()):
        parts.extend(f"probe {name}\n" for name, line in PROBES.items() if commands.startswith(line))
        parts.append(f"echo {shlex.quote(MARK + str(number))}\n")
        parts.append(commands.replace(TOKEN_LINE, 'TOKEN=$(cat "$ROOT/token")'))
    parts.append("probe after\n")
    parts.append("systemctl stop matrix-synapse\nnginx -s stop 2> /dev/null\n")
    return "".join(parts)


def test_the_document_is_what_this_test_knows():
    text = DOCUMENT.read_text()
    assert text.count(TOKEN_LINE) == 1
    fences = re.findall(r"^```(\w*)$", text, re.MULTILINE)
    assert len(fences) == 2 * len(BLOCK.findall(text)), "a block of another kind would not be run"


def times_of(line):
    return [datetime.strptime(time, "%H:%M:%S") for time in re.findall(r"\d\d:\d\d:\d\d", line)]


TIME = re.compile(r"\d\d:\d\d:\d\d")


def test_every_step_shows_what_the_document_says(shown):
    expected = blocks()
    assert len(shown) == len(expected)
    for (commands, promised), output in zip(expected, shown):
        if promised is None:
            continue
        pattern = re.escape(promised).replace("…", ".*")
        pattern = TIME.sub(r"\\d\\d:\\d\\d:\\d\\d", pattern)
        assert re.fullmatch(pattern, output), f"{commands}\nshows\n{output}\nrather than\n{promised}"


def test_the_live_download_was_live(shown):
    lines = [times_of(line) for output in shown for line in output.splitlines() if line.startswith("sent ")]
    assert len(lines) == 3
    for sent, received in lines:
        assert (received - sent) % timedelta(days=1) <= timedelta(seconds=1), lines
    assert lines[0][1] != lines[2][1], "all came at once"


def probed(root, name, what):
    return (root / "asked" / name / what).read_text()


def media(root, name):
    """The same on both ports: what was asked about media, as {question: answer}."""
    lines = [line.split(" ", 1) for line in probed(root, name, "media").splitlines()]
    assert len(lines) == 10 and [dict(lines[:5])] == [dict(lines[5:])], lines
    return {question: answer.strip() for question, answer in lines}


def test_everything_else_answers_as_before(shown, root):
    assert shown
    before = probed(root, "before", "other")
    for words in ("the page of Element 200", "proof 200", "m.homeserver", "m.server", '"versions"', '"server"', "301"):
        assert words in before, words
    for name in ("new", "all", "after"):
        assert probed(root, name, "other") == before, name


def test_new_media_goes_to_sluice_on_both_ports_and_old_media_stays(shown, root):
    assert shown
    before, new = media(root, "before"), media(root, "new")
    assert (before["id"], before["config"]) == ("24", '{"m.upload.size":52428800} 200')
    assert (new["id"], new["config"], new["own"]) == ("32", '{"m.upload.size":104857600} 200', "of new 200")
    assert new["old"] == before["old"] == "of before 200"


def test_all_media_goes_to_sluice_on_both_ports(shown, root):
    assert shown
    everything = media(root, "all")
    assert (everything["id"], everything["own"]) == ("32", "of all 200")
    assert "M_NOT_FOUND" in everything["old"], everything


def test_going_back_restores_the_site_and_its_media(shown, root):
    assert shown
    assert probed(root, "after", "site") == probed(root, "before", "site") != probed(root, "new", "site")
    back = media(root, "after")
    assert (back["id"], back["own"], back["old"]) == ("24", "of after 200", "of before 200")


def test_nothing_of_the_machine_stays(shown, root):
    assert shown and not list((root / "etc").iterdir())
