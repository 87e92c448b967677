"""What every command is made of: errors, output, times, a party that acts."""
