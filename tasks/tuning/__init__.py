"""What the stages that tune by TRL's trainers share: curve, checkpoints, and the model that is saved."""
