"""What is made from this repository for others to publish; no part of the installed packages."""
