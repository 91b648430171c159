"A stub of pip: notes what was to be installed, and installs nothing"
