"""What an exported policy saw, did and earned in held-out episodes, which its use is compared with."""
