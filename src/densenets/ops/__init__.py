"""The dense-block op: reference and faster or smaller executions behind one door."""
