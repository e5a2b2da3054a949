"""Rewrite rules: one public function per file, ``rule(plan) -> plan``; ``planner.optimizer`` gives their order."""
