"""Uses a job by paramiko: KEY KNOWN_HOSTS ECHO_ADDRESS PROXY_COMMAND..."""

import shlex
import socket
import sys

import paramiko

key_file, known_hosts, echo_address, *proxy = sys.argv[1:]
PATIENCE = 60


def connect(host_key=None):
    client = paramiko.SSHClient()
    # An unknown key is refused unless something else is said.
    if host_key:
        client.get_host_keys().add("job", host_key.get_name(), host_key)
    else:
        client.load_host_keys(known_hosts)
    client.connect(
        "job",
        username="x",
        pkey=paramiko.Ed25519Key.from_private_key_file(key_file),
        sock=paramiko.ProxyCommand(shlex.join(proxy)),
        allow_agent=False,
        look_for_keys=False,
        timeout=PATIENCE,
        banner_timeout=PATIENCE,
        auth_timeout=PATIENCE,
    )
    return client


def read_to_end(channel):
    channel.settimeout(PATIENCE)
    blocks = []
    while block := channel.recv(65536):
        blocks.append(block)
    return b"".join(blocks)


def command(client):
    stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 7", timeout=PATIENCE)
    stdin.write("in")
    stdin.channel.shutdown_write()
    assert (stdout.read(), stderr.read()) == (b"in", b"err\n")
    assert stdout.channel.recv_exit_status() == 7


def files(client):
    with client.open_sftp() as sftp:
        sftp.get_channel().settimeout(PATIENCE)
        sftp.put("sent", "there")
        sftp.get("there", "back")
        sftp.mkdir("directory")
        sftp.posix_rename("directory", "renamed")
        sftp.symlink("there", "link")
        assert sftp.readlink("link") == "there"
        assert {"there", "renamed", "link"} <= set(sftp.listdir())
        sftp.rmdir("renamed")
        try:
            sftp.stat("renamed")
            raise AssertionError("it is still there")
        except FileNotFoundError:
            pass
    # The connection outlives its sftp.
    command(client)


def shell(client):
    channel = client.get_transport().open_session()
    channel.get_pty("xterm", 132, 50)
    channel.exec_command("tty > /dev/null && stty size; exit 5")
    assert read_to_end(channel) == b"50 132\r\n"
    assert channel.recv_exit_status() == 5


def ports(client):
    transport = client.get_transport()
    host, port = echo_address.rsplit(":", 1)
    sent = b"x" * 300_000
    channel = transport.open_channel("direct-tcpip", (host, int(port)), ("127.0.0.1", 1))
    channel.settimeout(PATIENCE)
    # No more than the window: nobody reads meanwhile.
    channel.sendall(sent)
    channel.shutdown_write()
    assert read_to_end(channel) == sent

    there = transport.request_port_forward("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", there), PATIENCE) as outside:
        inside = transport.accept(PATIENCE)
        outside.sendall(b"to the person")
        outside.shutdown(socket.SHUT_WR)
        assert read_to_end(inside) == b"to the person"
        inside.sendall(b"to the job")
        inside.close()
        assert outside.recv(100) == b"to the job"
    transport.cancel_port_forward("127.0.0.1", there)


def another_key():
    try:
        connect(paramiko.Ed25519Key.from_private_key_file(key_file))
        raise AssertionError("it takes any key")
    except paramiko.BadHostKeyException:
        pass


client = connect()
for part in command, files, shell, ports:
    part(client)
    print(part.__name__, flush=True)
# New session keys in the middle of all.
client.get_transport().renegotiate_keys()
command(client)
client.close()
another_key()
print("all done")
