"""Senders in processes of their own, to be killed."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from typing import Any


def send_share(environment: dict[str, str], share: dict[str, Any], as_of: datetime) -> None:
    """Send a share as the mapped task does; end orderly on SIGTERM, as Airflow asks a task to."""
    os.environ |= environment
    from campaign.operators.message_sending import MessageSendingStep
    from campaign.run import Run

    step = MessageSendingStep(task_id="send_messages", share=share)
    signal.signal(signal.SIGTERM, lambda number, frame: step.on_kill())
    run = Run(dag_id="deliveryMgt", run_id=f"process_{os.getpid()}", task_id="send_messages", as_of=as_of)
    step.perform(run, {})  # type: ignore[typeddict-item]
