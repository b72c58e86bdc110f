"""The peer: python-hl7's own MLLP server, which parses each message, answers AA and keeps nothing.

python -m bench.peer 127.0.0.1:2575
"""

from __future__ import annotations

import asyncio
import sys

import hl7
import hl7.mllp


async def _serve(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            writer.writemessage(message.create_ack())
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


async def main(address: str) -> None:
    host, _, port = address.rpartition(":")
    async with await hl7.mllp.start_hl7_server(_serve, host, int(port), limit=1 << 26) as server:
        print("listening", file=sys.stderr, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
