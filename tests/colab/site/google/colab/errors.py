"Colab's own errors"

class Error(Exception): "Of which Colab's errors are, most of them"
class RuntimeManagementError(Error): "What a runtime cannot do for itself"
