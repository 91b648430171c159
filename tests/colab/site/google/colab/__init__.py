"A stub of the package that Colab's kernel brings along: what it answers is told by the files in the folder COLAB_STUB"
from google.colab import drive, errors, files, userdata
