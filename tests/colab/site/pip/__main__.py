"`pip install ...` is noted in `pip.txt`, a line a call; it fails where `pip-fails.txt` says how"
import os, sys
from pathlib import Path

def main(args):
    stub = Path(os.environ['COLAB_STUB'])
    with open(stub/'pip.txt', 'a') as f: print(*args, file=f)
    if args[:1]!=['install']: sys.exit(f'ERROR: the stub of pip knows install alone, not {" ".join(args)}')
    if (stub/'pip-fails.txt').exists():
        print((stub/'pip-fails.txt').read_text().strip(), file=sys.stderr)
        return 1
    if not any(o.startswith('-') and 'q' in o[:4] for o in args[1:]): print('Successfully installed', *(o for o in args[1:] if o[0]!='-'))
    return 0

sys.exit(main(sys.argv[1:]))
