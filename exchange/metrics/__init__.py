"""What a running broker or adapter tells whoever watches over it: figures and health, on a loopback port."""
