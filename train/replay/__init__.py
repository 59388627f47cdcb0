"""Replay: recorded positions decoded again under any policy."""
