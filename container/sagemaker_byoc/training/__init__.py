"""`train`: read the job, plan the launch, run the user's script, report."""
