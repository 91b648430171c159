"What several test files make: files, and tables of predictions whose truth is known"
from pathlib import Path
import numpy as np, pandas as pd
from PIL import Image
from scipy.special import expit, logit
from fundus_fastai import __version__
from fundus_fastai.core import write_json
from fundus_fastai.data import read as reading

def touch(root, *names):
    for n in names: f = Path(root)/n; f.parent.mkdir(parents=True, exist_ok=True); f.touch()
    return Path(root)

def drawn(to, patients=80, seed=0):
    for k in range(patients):
        c,p = reading.KERMANY_CLASSES[k%4],10_000*seed+k+1
        touch(to, f'OCT2017/train/{c}/{c}-{p}-1.jpeg', f'OCT2017/test/{c}/{c}-{p}-2.jpeg')
    write_json(Path(to)/'PROVENANCE.json', dict(source='phantom', name='kermany2018', patients=patients, seed=seed,
        library_version=__version__))

CLASSES = ['CNV','DME','DRUSEN','NORMAL']

def simulate(patients=60, scans=5, seed=0, skill=3.2, own=1.5, k=4):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), scans)
    y = (np.arange(patients) % k)[who]
    z = skill*np.eye(k)[y] + own*rng.normal(size=(patients,k))[who] + .7*rng.normal(size=(len(who),k))
    return y, np.exp(z)/np.exp(z).sum(1, keepdims=True), who

def micro(metric, y, p, w=None):
    "A metric over all pairs of image and class together"
    return metric(y.ravel(), p.ravel(), None if w is None else np.repeat(w, y.shape[1], axis=-1))

def class_table(patients=40, scans=3):
    "Predictions of four classes"
    y,p,who = simulate(patients, scans)
    names = np.array(CLASSES)
    paths = [f'{names[c]}-{w}-{i}.jpeg' for i,(c,w) in enumerate(zip(y,who))]
    return pd.DataFrame(dict(path=paths, patient=who.astype(str), eye='L', target=names[y],
                             **{f'p_{c}':p[:,i] for i,c in enumerate(names)}))

LABELS = ('drusen','haze','cupping')

def base(n, rng): return dict(path=[f'{i}.jpg' for i in range(n)], patient=[str(i//2) for i in range(n)], eye=['L','R']*(n//2))

def labels_table(n=200, seed=0):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame(base(n, rng))
    for k,(name,rate) in enumerate(zip(LABELS, (.5,.2,.07))):
        y = (rng.random(n)<rate).astype(int)
        df[f'target_{name}'],df[f'p_{name}'] = y,expit(1.5*y-2*k*.5+rng.normal(size=n))
    return df

def numbers_table(n=200, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.uniform(20, 90, n//2).repeat(2)
    return pd.DataFrame(base(n, rng)).assign(target=y, pred=.6*y+22+rng.normal(0, 6, n))

def points_table(n=400, seed=0, shift=0.):
    rng = np.random.default_rng(seed)
    y = rng.choice(5, n, p=[.5,.15,.2,.1,.05])
    return pd.DataFrame(base(n, rng)).assign(target=y, pred=.5*y+shift+rng.normal(0, .35, n))

def binary(patients=150, factor=1., seed=0, shift=-.5):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    q = expit(shift+1.5*rng.normal(size=patients))[who]
    y = rng.random(len(who))<q
    p = expit(factor*logit(q))
    return pd.DataFrame(dict(path=[f'{i}.png' for i in range(len(who))], patient=who.astype(str), eye='L', target=np.where(y, 'yes', 'no'),
                             p_no=1-p, p_yes=p))

def eyes(root, names):
    "Small pictures, each another, of all the `names`"
    for k,n in enumerate(names):
        (f := Path(root)/n).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(40, 220, (48,64,3), 'uint8')).save(f)

def mean_model(size=16):
    "An ONNX graph: p_a is the mean of the picture, p_b the rest"
    from onnx import TensorProto, helper, numpy_helper
    def const(k, v, t=np.float32): return numpy_helper.from_array(np.array(v, t), k)
    nodes = [helper.make_node('Cast', ['image'], ['x'], to=TensorProto.FLOAT), helper.make_node('ReduceMean', ['x','axes'], ['m'], keepdims=0),
             helper.make_node('Div', ['m','white'], ['a']), helper.make_node('Sub', ['one','a'], ['b']),
             helper.make_node('Unsqueeze', ['a','last'], ['pa']), helper.make_node('Unsqueeze', ['b','last'], ['pb']),
             helper.make_node('Concat', ['pa','pb'], ['answer'], axis=1)]
    graph = helper.make_graph(nodes, 'mean', [helper.make_tensor_value_info('image', TensorProto.UINT8, ['n',size,size,3])],
        [helper.make_tensor_value_info('answer', TensorProto.FLOAT, ['n',2])],
        [const('axes', [1,2,3], np.int64), const('last', [1], np.int64), const('white', 255), const('one', 1)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
