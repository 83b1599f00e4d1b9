"""How the demo detector was trained; serving and building need none of it."""
