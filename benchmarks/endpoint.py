"""Preference pairs made through an endpoint with 100 ms latency, against one call at a time; prints one JSON line.

The same code on both sides: `build_pairs` with an `LLMTeacher`, that is a question, a section per category, background,
an answer and a wrong answer for each context, nine calls a pair. The server is a process of its own that answers every
request after the latency. The baseline has one request under way at a time, over fewer contexts; rates are pairs per
second.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")


def serve(port_to, latency):
    "An OpenAI-compatible chat server that answers every request after `latency` seconds, never twice the same."
    numbers = itertools.count()

    async def handle(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
                await asyncio.sleep(latency)
                text = f"What makes sample {next(numbers)} of the alloy stronger than the others?"
                body = json.dumps(
                    {
                        "id": "x",
                        "object": "chat.completion",
                        "created": 0,
                        "model": "m",
                        "choices": [
                            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                        ],
                        "usage": {"prompt_tokens": 50, "completion_tokens": 12, "total_tokens": 62},
                    }
                ).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main():
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
        port_to.send(server.sockets[0].getsockname()[1])
        async with server:
            await server.serve_forever()

    asyncio.run(main())


def make_pairs(url, contexts, concurrency):
    "Build pairs from contexts; returns (pairs, calls, seconds)."
    from preflexor_lab.data.pairs import build_pairs
    from preflexor_lab.data.teachers import LLMTeacher
    from preflexor_lab.models.endpoint import EndpointEngine

    engine = EndpointEngine(url, "m", concurrency=concurrency)
    teacher = LLMTeacher(engine, wrong=True)
    start = time.perf_counter()
    pairs, _ = build_pairs(contexts, teacher, rejected_from="teacher", only_include_wrong_answers=False)
    return len(pairs), engine.calls["requests"], time.perf_counter() - start


def main():
    "Start the server, run both sides, print the ratio."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--contexts", type=int, default=64)
    parser.add_argument("--sequential", type=int, default=4, help="contexts of the baseline")
    parser.add_argument("--concurrency", type=int, default=64)
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    port_from, port_to = spawn.Pipe()
    server = spawn.Process(target=serve, args=(port_to, args.latency), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{port_from.recv()}/v1"
        contexts = [
            f"Alloy number {i} was annealed at {400 + i} degrees and its hardness rose by {i} points."
            for i in range(args.contexts)
        ]
        make_pairs(url, contexts[:2], 2)
        sides = {
            "concurrent": make_pairs(url, contexts, args.concurrency),
            "sequential": make_pairs(url, contexts[: args.sequential], 1),
        }
    finally:
        server.terminate()
        server.join()
    rate = {name: pairs / seconds for name, (pairs, _, seconds) in sides.items()}
    print(
        json.dumps(
            {
                "benchmark": "endpoint",
                "latency_s": args.latency,
                "concurrency": args.concurrency,
                "pairs": {k: v[0] for k, v in sides.items()},
                "calls": {k: v[1] for k, v in sides.items()},
                "seconds": {k: round(v[2], 2) for k, v in sides.items()},
                "pairs_per_second": {k: round(v, 2) for k, v in rate.items()},
                "ratio": round(rate["concurrent"] / rate["sequential"], 1),
                "target": 20.0,
            }
        )
    )
    raise SystemExit(rate["concurrent"] / rate["sequential"] < 20)


if __name__ == "__main__":
    main()
