"""The performance model: what sub-tasks take on each device (``model.load_model``), and plans made of them
(``compose``)."""
