"A quiz of gray squares, whose truth a test knows"
import re, subprocess, sys, time
import numpy as np, pandas as pd
from PIL import Image
from fundus_fastai.quiz.game import make_quiz

def squares(d, n=3, items=60, names=('ill','well'), **kwargs):
    "A quiz in the folder `d`; what is light is of the first class"
    rng = np.random.default_rng(0)
    truth = [names[i%len(names)] for i in range(items)]
    for i,o in enumerate(truth): Image.fromarray((rng.integers(0, 60, (40,60))+60*names.index(o)).astype('uint8')).save(d/f'MRN{i}.png')
    p = [[.9 if o==k else .1 for k in names] for o in truth]
    t = pd.DataFrame(dict(path=[f'MRN{i}.png' for i in range(items)], sha256='', patient=[f'PID{i}' for i in range(items)], truth=truth, ai=truth, p=p))
    told = dict(root=str(d), task='anomaly', question='Is this eye normal?', phantom=True, how='random', net='')
    return make_quiz(d/'quiz.db', t, n=n, **(told|kwargs))

def field(page, name): return re.search(f'name="{name}"[^>]*value="([^"]*)"', page)[1]
def said(page, **kwargs): return {k:field(page, k) for k in ('round','n','token')}|dict(answer='ill', confidence='75', ms='900')|kwargs

class Server:
    "The page in a process of its own, on the quiz in `file`"
    code = ("import sys; from fundus_fastai.local import bound; from fundus_fastai.quiz.game import Quiz; "
            "from fundus_fastai.quiz.page import Desk, quiz_server; s = bound(int(sys.argv[2])); port = s.getsockname()[1]; "
            "server = quiz_server(Desk(Quiz(sys.argv[1]), port)); print(port, flush=True); server.run(sockets=[s])")
    def __init__(self, file, port=0):
        self.p = subprocess.Popen([sys.executable, '-c', self.code, str(file), str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.p.stdout.readline())
        self.url = f'http://127.0.0.1:{self.port}'
    def kill(self):
        self.p.kill() # SIGKILL: nothing is tidied up
        self.p.wait()
    def __enter__(self): return self
    def __exit__(self, *_): self.kill()
