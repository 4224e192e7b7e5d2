"""Packs: hundreds of members trained as one."""
