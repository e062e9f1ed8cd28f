#!/bin/bash
# One task per GPU; JAX reads the number of tasks, their ids and the first host from SLURM.
# Two minutes before the time limit SLURM sends SIGTERM: the run saves and ends with status 0.
#   sbatch slurm.sh --config chorales --model.dtype=bfloat16 --training.batch_size=64 \
#       --workdir /shared/runs/a
# Submit it again to go on. A chain is safe: a finished run says so and ends at once.
#   sbatch --dependency=afterany:JOB slurm.sh ...
#SBATCH --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=8 --signal=TERM@120
#SBATCH --time=12:00:00
export XLA_FLAGS="$XLA_FLAGS --xla_gpu_enable_latency_hiding_scheduler=true"
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun does not take it from sbatch since 22.05
srun musegan-jax train --distributed "$@"
