"""SQL text to logical plan to sub-tasks."""
