"""A Celery worker with a polling task that retries itself, with late acks: what a Celery user would write.

`python -m bench.rivals.celery_worker AMQP_URL CREW_URL`; requests are sent as tasks to the queue `kickoff.celery`.
"""

import os
import sys
from typing import Any

import kombu
import requests
from celery import Celery, Task

QUEUE = "kickoff.celery"
POLL_INTERVAL = 1.0
THREADS = 100

app = Celery("bench", broker=os.environ.get("BENCH_AMQP_URL"))
app.conf.update(
    task_acks_late=True,
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_prefetch_multiplier=10,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
http = requests.Session()
http.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=THREADS))
results = kombu.Exchange("kickoff.results", "topic", durable=True)


@app.task(name="bench.kickoff")
def kickoff(request: dict[str, Any]) -> None:
    response = http.post(f"{os.environ['BENCH_CREW_URL']}/kickoff", json={"inputs": request["inputs"]}, timeout=60)
    track.apply_async((request, response.json()["kickoff_id"]), countdown=POLL_INTERVAL)


@app.task(bind=True, max_retries=None, name="bench.follow")
def track(self: Task, request: dict[str, Any], kickoff_id: str) -> None:
    status = http.get(f"{os.environ['BENCH_CREW_URL']}/status/{kickoff_id}", timeout=30).json()
    if status["state"] not in {"SUCCESS", "FAILED"}:
        raise self.retry(countdown=POLL_INTERVAL)
    with app.producer_or_acquire() as producer:
        event = {"request": request, "kickoff_id": kickoff_id, "result": status["result"]}
        producer.publish(event, exchange=results, routing_key="bench.succeeded", declare=[results], delivery_mode=2)


def main(amqp_url: str, crew: str) -> None:
    os.environ["BENCH_AMQP_URL"], os.environ["BENCH_CREW_URL"] = amqp_url, crew
    app.conf.broker_url = amqp_url
    app.worker_main(
        [
            "worker",
            "-P",
            "threads",
            "-c",
            str(THREADS),
            "--loglevel=error",
            "--without-gossip",
            "--without-mingle",
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
