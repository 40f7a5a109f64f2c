"""Rank 1 raises while the others wait for it in a collective operation of MPI."""

from mpi4py import MPI

ranks = MPI.COMM_WORLD
ranks.barrier()
if ranks.Get_rank() == 1:
    raise ValueError("label 11 is none of the ten digits")
ranks.allreduce(1)
