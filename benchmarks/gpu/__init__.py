"""What training costs and gives on a GPU: run on a machine that has one."""
