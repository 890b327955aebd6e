#!/usr/bin/env python3
"""Prints as JSON what TensorBoard reads in a folder of event files: tag -> [[step, value], ...].

    events.py FOLDER
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1])
events.Reload()
print(json.dumps({tag: [[entry.step, entry.value] for entry in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
