"Small nets on noise, and a process that is asked questions"
import json
import cv2, numpy as np, pandas as pd, pytest, torch
from fundus_fastai.core import ModelError
from fundus_fastai.vision.data import eye_dls

tiny = 'test_resnet'  # timm's own test net: half a million weights, a normalization that is not ImageNet's

worker_code = '''
import json, sys, time, warnings
from concurrent.futures import ThreadPoolExecutor
warnings.filterwarnings('ignore')
out,sys.stdout = sys.stdout,sys.stderr
import cv2, numpy as np, pandas as pd, timm, torch
ran = []
torch.set_num_threads(1)
sys.modules['timm.models.inception_v3'].trunc_normal_ = lambda *args, **kwargs: None # slow, and soon overwritten
sys.addaudithook(lambda event, args: ran.append(str(args)) if event=='pickle.find_class' else None)
from fundus_fastai.vision.model import load_model
from fundus_fastai.vision.data import eye_dls
from fundus_fastai.vision.learner import eye_learner, find_net, find_weights

def body(arch, to):
    df = pd.DataFrame(dict(path=[np.zeros((32,32), np.uint8)]*4, label=list('ABAB'), split=['train']*2+['valid']*2))
    learn = eye_learner(eye_dls(df, size=32, bs=2, workers=0), arch)
    np.savez(to, **{k.removeprefix('model.'):v.numpy() for k,v in learn.model[0].state_dict().items()})
    return learn.config

def ask(arch):
    t = time.time()
    try: says = ['found', str(find_weights('imagenet', find_net(arch)))]
    except Exception as e: says = [type(e).__name__, str(e)]
    return [*says, time.time()-t]

def ask_all(archs):
    with ThreadPoolExecutor() as ex: return list(ex.map(ask, archs))

def predict(run, images):
    ran.clear()
    p = load_model(run).predict_frame(images)
    return dict(columns=list(p.columns), p=p.filter(like='p_').to_numpy().tolist(), unpickled=list(ran))

for line in sys.stdin:
    n,do,args = json.loads(line)
    try: r = globals()[do](*args)
    except Exception as e: r = dict(error=[type(e).__name__, str(e)])
    print(json.dumps([n,r]), file=out, flush=True)
'''

class Worker:
    "Ask a process: `ask` hands a question over, `get` waits for its answer, a call does both"
    def __init__(self, p, log): self.p,self.log,self.n,self.answers = p,log,0,{}
    def ask(self, do, *args):
        self.n += 1
        self.p.stdin.write(json.dumps([self.n,do,args])+'\n'); self.p.stdin.flush()
        return self.n
    def get(self, n):
        while n not in self.answers:
            line = self.p.stdout.readline()
            assert line, self.log.read_text()[-2000:]
            self.answers.update([json.loads(line)])
        return self.answers.pop(n)
    def __call__(self, do, *args): return self.get(self.ask(do, *args))

def frame(n=12, classes='AB', seed=0, side=40):
    "`n` noise images of as many patients, two thirds of them for training"
    rng = np.random.default_rng(seed)
    return pd.DataFrame(dict(path=[rng.integers(0, 255, (side,side), dtype=np.uint8) for _ in range(n)], patient=[f'p{i}' for i in range(n)],
                             eye='L', label=[classes[i%len(classes)] for i in range(n)], split=['train']*(n*2//3)+['valid']*(n-n*2//3)))

def noise_dls(size=32, **kwargs): return eye_dls(frame(**kwargs), size=size, bs=4, workers=0)

def body_of(learn): return {k.removeprefix('model.'):v for k,v in learn.model[0].state_dict().items()}

def same(a, b):
    "Are the tensors of `a` those of the same names in `b`?"
    return len(a)>0 and all(torch.equal(torch.as_tensor(v), torch.as_tensor(b[k])) for k,v in a.items())

def refused(*words):
    "Expect a `ModelError` of one sentence that has all `words`"
    return pytest.raises(ModelError, match='(?s)'+''.join(f'(?=.*{w})' for w in words)+'^[^\n]*$')

def eye(i, side='R', size=96):
    "A made-up eye: its color tells the number, a bright spot on the right its side"
    im = np.zeros((size,size+24,3), np.uint8)
    cv2.circle(im, (size//2+12,size//2), size//2-4, (90+i%8*15,60,30+i%5*10), -1)
    cv2.circle(im, (size//2+12+(20 if side=='R' else -20),size//2), 7, (255,230,160), -1)
    return im

def labeled(task, n=12):
    "`frame` with the labels that `task` asks for"
    df,k = frame(n),np.arange(n)
    df.attrs.update(source='phantom', name='x', root='.')
    if task=='age': return df.assign(label=40.+5*k)
    if task=='sex_age': return df.assign(label=np.where(k%2, 'female', 'male'), age=40.+5*k)
    if task=='dr': return df.assign(label=(k%5).astype(str), split=np.where(k<8, 'train', 'valid'))
    if task=='dr_ordered': return df.assign(label=(k%5).astype(float))
    if task!='diseases': return df
    df = df.assign(drusen=k%2, haze=k//2%2, label='drusen')
    df.attrs.update(labels=['drusen','haze'], label='drusen, haze')
    return df
