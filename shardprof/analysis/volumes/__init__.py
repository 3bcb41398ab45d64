"""What a strategy needs to move and to hold, by theory and as it is implemented, against what a run did."""
