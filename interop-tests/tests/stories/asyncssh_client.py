"""Uses a job by asyncssh, with new session keys every megabyte: KEY KNOWN_HOSTS ECHO_ADDRESS PROXY_COMMAND..."""

import asyncio
import os
import sys

import asyncssh

key_file, known_hosts, echo_address, *proxy = sys.argv[1:]


def connect(**options):
    return asyncssh.connect(
        "job",
        username="x",
        client_keys=[key_file],
        known_hosts=options.pop("known_hosts", known_hosts),
        proxy_command=proxy,
        config=None,
        agent_path=None,
        rekey_bytes=1_000_000,
        login_timeout=60,
        **options,
    )


async def command(connection):
    ended = await connection.run("cat; echo err >&2; exit 7", input="in")
    assert (ended.stdout, ended.stderr, ended.exit_status) == ("in", "err\n", 7), ended
    many = await asyncio.gather(*(connection.run(f"echo {number}") for number in range(20)))
    assert [ended.stdout for ended in many] == [f"{number}\n" for number in range(20)]


async def files(connection):
    async with connection.start_sftp_client() as sftp:
        await sftp.put("sent", "there")
        await sftp.get("there", "back")
        assert "there" in await sftp.listdir()
        assert (await sftp.statvfs(".")).bsize > 0
        await sftp.makedirs("some/directories")
        await sftp.rmtree("some")
        assert not await sftp.exists("some")
    # The connection outlives its sftp.
    await command(connection)


async def terminal(connection):
    line = "stty size; read word; stty size; echo $word; sleep 1000"
    process = await connection.create_process(line, term_type="xterm", term_size=(80, 24))
    assert await process.stdout.readline() == "24 80\r\n"
    process.change_terminal_size(132, 50)
    process.stdin.write("word\n")
    # The echo of the terminal comes first.
    answers = [await process.stdout.readline() for _ in range(3)]
    assert answers == ["word\r\n", "50 132\r\n", "word\r\n"], answers
    process.terminate()
    await process.wait()
    assert process.exit_signal[0] == "TERM", process.exit_signal


async def signals(connection):
    for name in "TERM", "KILL":
        process = await connection.create_process("echo $$; exec tail -f /dev/null")
        number = (await process.stdout.readline()).strip()
        # A shell on its way to tail may lose a signal.
        await connection.run(f"until grep -q tail /proc/{number}/comm; do sleep 0.05; done", check=True)
        process.send_signal(name)
        await process.wait()
        assert process.exit_signal[0] == name, process.exit_signal


async def echoes(reader, writer, sent):
    async def send():
        writer.write(sent)
        await writer.drain()
        writer.write_eof()

    _, answer = await asyncio.gather(send(), reader.read())
    writer.close()
    return answer == sent


async def ports(connection):
    host, port = echo_address.rsplit(":", 1)
    sent = bytes(range(256)) * 8000
    assert await echoes(*await connection.open_connection(host, int(port)), sent)
    here = await connection.forward_local_port("127.0.0.1", 0, host, int(port))
    assert await echoes(*await asyncio.open_connection("127.0.0.1", here.get_port()), sent)
    there = await connection.forward_remote_port("127.0.0.1", 0, host, int(port))
    assert await echoes(*await asyncio.open_connection("127.0.0.1", there.get_port()), sent)
    for listener in here, there:
        listener.close()
        await listener.wait_closed()
    # A Unix socket in the job, given to one here, which leads to the port.
    path_here, path_there = os.path.abspath("here.socket"), os.path.abspath("there.socket")
    here = await connection.forward_local_path_to_port(path_here, host, int(port))
    there = await connection.forward_remote_path(path_there, path_here)
    assert await echoes(*await asyncio.open_unix_connection(path_there), sent)
    for listener in here, there:
        listener.close()
        await listener.wait_closed()
    await command(connection)


async def another_key():
    with open(key_file + ".pub") as public:
        other = asyncssh.import_known_hosts("job " + public.read())
    try:
        async with connect(known_hosts=other):
            raise AssertionError("it takes any key")
    except asyncssh.HostKeyNotVerifiable:
        pass


async def main():
    async with connect() as connection:
        for part in command, files, terminal, signals, ports:
            await part(connection)
            print(part.__name__, flush=True)
    await another_key()
    print("all done")


asyncio.run(asyncio.wait_for(main(), 60))
