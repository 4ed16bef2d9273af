"""The dense-block op: a reference and faster or smaller executions behind one signature."""
