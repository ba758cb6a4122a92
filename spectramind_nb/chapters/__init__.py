"""The stage functions of the ten numbered notebooks."""
