"""The environment contract, the batch that runs it, and what both are made of."""

from palaestra.envs.core.batched_env import BatchedEnv as BatchedEnv
from palaestra.envs.core.batched_env import Obs as Obs
from palaestra.envs.core.batched_env import StepResult as StepResult
from palaestra.envs.core.env import Array as Array
from palaestra.envs.core.env import Reference as Reference
from palaestra.envs.core.env import StateT as StateT
from palaestra.envs.core.env import TensorEnv as TensorEnv
from palaestra.envs.core.env import resolve_device as resolve_device
from palaestra.envs.core.env import torch_dtype as torch_dtype
from palaestra.envs.core.errors import EnvError as EnvError
from palaestra.envs.core.vector import TensorVectorEnv as TensorVectorEnv
from palaestra.envs.core.vector import host_row as host_row
from palaestra.envs.core.vector import map_state as map_state
from palaestra.envs.core.vector import state_fields as state_fields
