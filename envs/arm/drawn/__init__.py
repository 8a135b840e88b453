"""Numbers of the reaching tasks that are drawn for each episode: ranges, sensors, delays, motors.

Source: Tobin et al., "Domain randomization for transferring deep neural networks from simulation to the real world",
IROS 2017.
"""
