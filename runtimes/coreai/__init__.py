"""Core AI: one asset (.aimodel) for Apple's devices of 2026 on, run here by Apple's CPU runtime."""
