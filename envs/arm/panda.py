"""The Franka Emika Panda as data.

Sources: geometry and limits: Franka Robotics, "Robot and interface specifications". Masses, inertias and friction: Gaz,
Cognetti, Oliva, Robuffo Giordano and De Luca, "Dynamic identification of the Franka Emika Panda robot with retrieval of
feasible parameters using penalty-based optimization", IEEE RA-L 2019.
"""

from __future__ import annotations

import math

from palaestra.envs.arm.chain import Row, SerialChain

PANDA = SerialChain.from_dh(
    name="Franka Emika Panda",
    dh=(
        (0.0, 0.0, 0.333),
        (0.0, -math.pi / 2, 0.0),
        (0.0, math.pi / 2, 0.316),
        (0.0825, math.pi / 2, 0.0),
        (-0.0825, -math.pi / 2, 0.384),
        (0.0, math.pi / 2, 0.0),
        (0.088, math.pi / 2, 0.0),
    ),
    flange=(0.0, 0.0, 0.0, 0.107),
    tool=(0.0, 0.0, -math.pi / 4, 0.1034),  # the middle between the finger tips of Franka's hand
    q_min=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    q_max=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    velocity=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    acceleration=(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
    torque=(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),
    mass=(4.970684, 0.646926, 3.228604, 3.587895, 1.225946, 1.666555, 0.735522),
    centre_of_mass=(
        (0.003875, 0.002081, -0.04762),
        (-0.003141, -0.02872, 0.003495),
        (0.027518, 0.039252, -0.066502),
        (-0.05317, 0.104419, 0.027454),
        (-0.011953, 0.041065, -0.038437),
        (0.060149, -0.014117, -0.010517),
        (0.010517, -0.004252, 0.061597),
    ),
    inertia=(
        (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169),
        (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
        (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
        (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
        (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
        (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
        (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
    ),
    friction=(
        (0.54615, 5.1181, 0.039533),
        (0.87224, 9.0657, 0.025882),
        (0.64068, 10.136, -0.04607),
        (1.2794, 5.5903, 0.036194),
        (0.83904, 8.3469, 0.026226),
        (0.30301, 17.133, -0.021047),
        (0.56489, 10.336, 0.0035526),
    ),
)

PANDA_READY: Row = (0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4)  # Franka's usual start
PANDA_TARGETS = ((0.35, 0.65), (-0.2, 0.2), (0.15, 0.5))  # m, x, y and z in the axes of the world
