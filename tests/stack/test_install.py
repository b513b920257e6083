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
TOKEN_LINE = "TOKEN=your_access_token"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "=== block "

DEV = """#!/bin/sh
# In the place of ./dev: the build has been done.
[ "$*" = build ] && install -D "$BUILT_SLUICE" build/release/sluice
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
      CREDENTIALS_DIRECTORY=$ROOT/credentials
      export CREDENTIALS_DIRECTORY
      mkdir -p "$CREDENTIALS_DIRECTORY"
      credential=$(of_unit LoadCredential)
      install -m 400 "${credential#*:}" "$CREDENTIALS_DIRECTORY/${credential%%:*}"
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
  reload) nginx -s reload 2> /dev/null ;;
  *) exit 1 ;;
esac
"""

NGINX_MAIN = """
user root;
worker_processes 1;
pid ROOT/nginx.pid;
error_log ROOT/nginx.log;
events { worker_connections 768; }
http { access_log off; include /etc/nginx/sites-enabled/*; }
"""

NGINX_BEFORE = """
server {
    listen 443 ssl http2;
    server_name matrix.example.org;
    ssl_certificate /etc/letsencrypt/live/matrix.example.org/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/matrix.example.org/privkey.pem;
    location / { proxy_pass http://127.0.0.1:8008; }
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
mkdir -p /etc/nginx/sites-available /etc/nginx/sites-enabled /etc/matrix-synapse/conf.d /etc/systemd/system
mkdir -p /var/lib/matrix-synapse /var/lib/nginx /etc/letsencrypt/live/matrix.example.org
printf '127.0.0.1 localhost matrix.example.org\n' > /etc/hosts
printf 'hosts: files\n' > /etc/nsswitch.conf
sed "s|ROOT|$ROOT|" "$ROOT/nginx.conf" > /etc/nginx/nginx.conf
cp "$ROOT/before.conf" /etc/nginx/sites-available/matrix
ln -s ../sites-available/matrix /etc/nginx/sites-enabled/
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=matrix.example.org \
  -addext subjectAltName=DNS:matrix.example.org -keyout /etc/letsencrypt/live/matrix.example.org/privkey.pem \
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


def script():
    parts = [PREPARE, "set -o pipefail\n"]
    for number, (commands, _) in enumerate(blocks()):
        parts.append(f"echo {shlex.quote(MARK + str(number))}\n")
        parts.append(commands.replace(TOKEN_LINE, 'TOKEN=$(cat "$ROOT/token")'))
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


def test_nothing_of_the_machine_stays(shown, root):
    assert shown and not list((root / "etc").iterdir())
