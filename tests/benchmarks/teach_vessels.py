"""Teach the net of anatomy.vessels anew. python tests/benchmarks/teach_vessels.py OUT STEP... --data DIR --seconds 700 [--device cuda]

A step is NAMES:SHARE[:START]: the nets NAMES (joined by +, a lot each in turn) are taught for SHARE of the seconds; they start with the
weights OUT/START.safetensors, or with those of the library (`all:1:shipped`). Names:
phantom (phantoms only), all (the 20 images of DRIVE, and phantoms as a fifth of the pictures), fold0 to fold3 (likewise, but without every
fourth image from the 0th to the 3rd on), scratch0 to scratch3 (as those, without phantoms). Each writes OUT/NAME.safetensors (half floats,
while it learns, too), then OUT/NAME.csv, what it says of the images that it has not seen (HRF and the rest of DRIVE), one row an image, and
folds OUT/NAME.png, their maps one below the other (red: vessel, green: artery). A net is the running mean of its weights. Time is the clock's, so a faster
machine sees more; nothing of HRF is used but to print figures.

Draws `--phantoms N` first (seed 9; a tenth of a second each), kept in the file `--drawn`. Reads drive/ (photographs, manual vessels,
fields), drive_av/ (which vessels are arteries) and hrf_av/. DRIVE is for research: see fundus_fastai/anatomy/CARD.md.
The shipped weights: see there, and teach_vessels.sh for the call."""
import os, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from argparse import ArgumentParser
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch, torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from fundus_fastai.anatomy.vessels import Scaled, VesselNet, contrast, vessels
from fundus_fastai.image.read import read_image
from fundus_fastai.phantom.fundus import phantom_fundus

SHIPPED = files('fundus_fastai')/'anatomy/vessels.safetensors'
OUTSIDE = 255 # label of what does not count; 0 none, 1 artery, 2 vein, 3 vessel of either kind
CANVAS,TAUGHT = 704,640 # side of the square in which pictures lie, and of the fields there

# ---- pictures

def gray(path): return cv2.imread(str(path), -1)

def other(im, rng):
    "The photograph in another light, through another camera: gain, gamma, shade, focus, resolution, compression"
    h,w = im.shape[:2]
    a = (im/255.)**np.exp(rng.normal(0, .25, 3)*[.6,.6,1])
    shade = cv2.resize(rng.normal(0, .25, (3,3)), (w,h), interpolation=cv2.INTER_CUBIC)
    a = np.clip(a*np.exp(shade[...,None]+rng.normal(0, [.2,.15,.3])), 0, 1)
    u = rng.random()
    if u<.25: a = cv2.GaussianBlur(a, (0,0), rng.uniform(.4, 1.3))
    elif u<.5:
        k = rng.uniform(.6, .95)
        a = cv2.resize(cv2.resize(a, None, fx=k, fy=k, interpolation=cv2.INTER_AREA), (w,h), interpolation=cv2.INTER_CUBIC)
    a = np.clip(255*(a+rng.normal(0, rng.uniform(0, .015), a.shape)), 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode('.jpg', a, [cv2.IMWRITE_JPEG_QUALITY,int(rng.integers(50, 98))])[1], 1)

def laid(im, y):
    "Contrast and labels of a photograph on the canvas, at the scale of teaching; channels first. Close round the field there is no vessel"
    w = Scaled(im, TAUGHT)
    y = cv2.resize(y, w.mask.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    a,b = contrast(w.image, w.mask).astype(np.float16).transpose(2, 0, 1),np.where(w.near, np.where(y==OUTSIDE, 0, y), OUTSIDE).astype(np.uint8)
    h,v = (min(CANVAS, o) for o in b.shape)
    x,t = np.zeros((6,CANVAS,CANVAS), np.float16),np.full((CANVAS,CANVAS), OUTSIDE, np.uint8)
    x[:,:h,:v],t[:h,:v] = a[:,:h,:v],b[:h,:v]
    return x,t

def draw(i, size=664, seed=9):
    "Phantom `i`, three of four through another camera"
    cv2.setNumThreads(1)
    o = phantom_fundus([] if i%2 else None, seed, i+1, eye='RL'[i//2%2], camera=[None,None,None,'disc','near'][i%5], size=size)
    y = np.where(o.field, o.vessels['artery'].astype(np.uint8)+2*o.vessels['vein'].astype(np.uint8), OUTSIDE)
    return laid(other(o.image, np.random.default_rng(i)) if i%4 else o.image, y.astype(np.uint8))

def drawn(to, n, workers=0):
    "Contrasts and labels of phantoms, kept in the file `to`"
    if to.exists():
        with np.load(to, allow_pickle=False) as z: return z['x'],z['y']
    with ProcessPoolExecutor(max(1, workers), mp_context=get_context('fork')) as p:
        x,y = (np.stack(o) for o in zip(*(p.map if workers else map)(draw, range(n))))
    part = to.with_name('part_'+to.name)
    np.savez(part, x=x, y=y)
    part.rename(to)
    return x,y

def drive(root):
    "Photographs of DRIVE, and labels as large; where the two readings disagree, of either kind"
    for i in range(21, 41):
        v,av = gray(root/f'drive/vessels/{i}.png')>0,gray(root/f'drive_av/masks_av/{i}_training.png')
        y = np.where(v, np.where(av>0, av, 3), 0).astype(np.uint8)
        yield read_image(root/f'drive/images/{i}.png'),np.where(gray(root/f'drive/fov/{i}.png')>0, y, OUTSIDE).astype(np.uint8)

def hrf(root):
    "Photographs of HRF, and labels"
    for o in pd.read_csv(root/'hrf_av/labels.csv').itertuples():
        yield read_image(root/'hrf_av'/o.image),np.where(gray(root/'hrf_av'/o.fov)>0, gray(root/'hrf_av'/o.mask_av), OUTSIDE)

def versions(pairs, n):
    "Of each photograph, itself and `n-1` others, as [photographs*n,...]"
    rng = np.random.default_rng(1)
    return [np.stack(o) for o in zip(*[laid(other(im, rng) if k else im, y) for im,y in pairs for k in range(n)])]

# ---- a lot, on the device

def uniform(n, lo, hi, to): return torch.empty(n, device=to).uniform_(lo, hi)

def moved(x, y, side):
    "Windows of pictures, turned, mirrored, nearer or farther, bent; the labels likewise"
    n,to = len(x),x.device
    t,z = uniform(n, 0, 2*np.pi, to),torch.exp(torch.randn(n, device=to)*.2+.08)*side/CANVAS
    a,b = t.cos()*z,t.sin()*z
    flip = torch.where(torch.rand(n, device=to)<.5, -1., 1.)
    reach = max(0., .9-side/CANVAS)+.15
    at = torch.stack([torch.stack([a*flip,-b,uniform(n, -reach, reach, to)], 1), torch.stack([b*flip,a,uniform(n, -reach, reach, to)], 1)], 1)
    bend = torch.randn(n, 2, 7, 7, device=to)*uniform((n,1,1,1), 0, .012, to)
    grid = F.affine_grid(at, (n,1,side,side), align_corners=False)
    grid = grid+F.interpolate(bend, (side,side), mode='bicubic', align_corners=True).permute(0, 2, 3, 1)
    q = F.grid_sample(OUTSIDE-y[:,None].float(), grid, mode='nearest', align_corners=False) # beyond the edge 0: OUTSIDE
    return F.grid_sample(x.float(), grid, align_corners=False),(OUTSIDE-q[:,0]).round().to(torch.uint8)

GAUSS = torch.tensor([[1.,4,6,4,1]])/16

def jitter(x):
    "Other contrast (from place to place, too), color, gamma, focus and grain"
    n,to,(h,w) = len(x),x.device,x.shape[-2:]
    def r(s, *dims): return torch.randn(n, *dims, device=to)*s
    mix = torch.eye(3, device=to)+r(.1, 3, 3)
    x = torch.einsum('ncd,nkdhw->nkchw', mix*torch.exp(r(.25, 3, 1)), x.view(n, 2, 3, h, w)).reshape(n, 6, h, w)
    x = x*torch.exp(r(.2, 1, 1, 1)+F.interpolate(r(.25, 1, 4, 4), (h,w), mode='bilinear'))+r(.15, 6, 1, 1)
    k = (GAUSS.T@GAUSS).to(to).expand(6, 1, 5, 5)
    x = x+uniform((n,1,1,1), -.8, 1, to)*(F.conv2d(x, k, padding=2, groups=6)-x)*(torch.rand(n, 1, 1, 1, device=to)<.6)
    x = x+torch.randn_like(x)*uniform((n,1,1,1), -.3, .3, to).clamp(min=0)
    x = x.sign()*(x.abs()+1e-4)**torch.exp(r(.13, 1, 1, 1))
    one = (torch.arange(6, device=to)//3*3+1)
    return torch.where(torch.rand(n, 1, 1, 1, device=to)<.06, x[:,one], x)

def loss(o, y):
    "Cross-entropy and overlap (Dice) of vessels, cross-entropy of arteries (answer, first guess) on vessels of a known kind"
    o,use = o.float(),(y!=OUTSIDE).float()
    t,kind,artery = ((y>0)&(y<4)).float(),((y==1)|(y==2)).float(),(y==1).float()
    p = torch.sigmoid(o[:,0])*use
    bce = (F.binary_cross_entropy_with_logits(o[:,0], t, reduction='none')*use).sum()/(use.sum()+1)
    dice = 1-(2*(p*t).sum()+1)/(p.sum()+t.sum()+1)
    av = [(F.binary_cross_entropy_with_logits(o[:,i], artery, reduction='none')*kind).sum()/(kind.sum()+1) for i in (1,2)]
    return bce+.3*dice+.5*av[0]+.25*av[1]

# ---- training

def weights(path): return {k:v.float() if v.is_floating_point() else v for k,v in load_file(path).items()}

def left_out(name, n=20): return [i for i in range(n) if name[-1].isdigit() and i%4==int(name[-1])]

class Pupil:
    "A net that is taught: `real` and `drawn` are contrasts and labels on the device, `keep` the places in `real` that it may see"
    def __init__(self, name, real, drawn, *, keep, share, start=None, device='cpu', lr=2e-3):
        torch.manual_seed(0)
        self.name,self.real,self.drawn,self.keep,self.share,self.lr,self.n,self.run = name,real,drawn,keep,share,lr,0,[]
        net = VesselNet()
        if start: net.load_state_dict(weights(start))
        self.net = net.train().to(device, memory_format=torch.channels_last)
        self.mean = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(.99), use_buffers=True)
        self.opt,self.device = torch.optim.AdamW(self.net.parameters(), lr=lr, weight_decay=1e-2, fused=True),device
    def lot(self, size, side):
        "Windows of real pictures and of phantoms"
        n = round(size*self.share)
        some = [torch.randint(len(self.drawn[1]), (n,), device=self.device)] if n else []
        got = [[o[i] for o in self.drawn] for i in some]
        if n<size:
            i = self.keep[torch.randint(len(self.keep), (size-n,), device=self.device)]
            got.append([o[i] for o in self.real])
        x,y = moved(*(torch.cat(o) for o in zip(*got)), side)
        return jitter(x)*(x!=0).any(1, keepdim=True),y # beyond the field the net sees nothing, there as elsewhere
    def step(self, s, size=12, side=448):
        "One lot, at the share `s` of the time"
        for g in self.opt.param_groups: g['lr'] = self.lr*min(1, s/.05+.02)*.5*(1+np.cos(np.pi*min(1, s)))+1e-6
        with torch.no_grad(): x,y = self.lot(size, side)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16): o = self.net(x.contiguous(memory_format=torch.channels_last))
        l = loss(o, y)
        self.opt.zero_grad()
        l.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 2.)
        self.opt.step()
        self.mean.update_parameters(self.net)
        self.n,self.run = self.n+1,[*self.run[-50:],l.detach()]
    def told(self, t): print(f'{self.name}: {self.n} lots, {t:.0f} s, loss {torch.stack(self.run).mean():.3f}', flush=True)
    def save(self, out):
        "The mean of the weights, as half floats"
        kept = {k:(v.half() if v.is_floating_point() else v).contiguous().cpu() for k,v in self.mean.module.state_dict().items()}
        save_file(kept, out/f'{self.name}.part')
        (out/f'{self.name}.part').rename(out/f'{self.name}.safetensors')

def teach(pupils, seconds, out, *, size=12, side=448, every=30):
    "A lot for each in turn, by the clock"
    t0,last = time.time(),0
    while (t := time.time()-t0)<seconds or not pupils[-1].n:
        for p in pupils:
            p.step(t/seconds, size, side)
            if len(p.run)>1: p.run[-2].item() # the lot before is done: the device is not far behind the clock
        if t-last>every:
            last = t
            for p in pupils:
                p.told(t)
                p.save(out)
    for p in pupils:
        p.told(time.time()-t0)
        p.save(out)

# ---- figures

def judged(o, y):
    "AUC and F1 of the 8-bit map within the field; share of right kinds on vessels, and on those found"
    m,p = y!=OUTSIDE,np.round(255*o.full('prob')).astype(np.uint8)
    t,f,kind = (y>0)[m],p[m]>127,(y==1)|(y==2)
    right = (o.full('artery')>.5)==(y==1)
    return (roc_auc_score(t, p[m]),2*(t&f).sum()/(t.sum()+f.sum()),right[kind].mean(),right[kind&(p>127)].mean())

NAMES = 'auc','f1','kinds','kinds_found'

def examined(name, sets, out, device='cpu', most=None):
    "A row for each image that the net has not seen, and the maps of a fold's"
    net = VesselNet()
    net.load_state_dict(weights(out/f'{name}.safetensors'))
    net,rows,maps = net.eval().to(device, memory_format=torch.channels_last),[],[]
    for data,pairs in sets.items():
        unseen = range(len(pairs)) if data!='drive' or name=='phantom' else left_out(name)
        for i in list(unseen)[:most]:
            o = vessels(pairs[i][0], net)
            rows.append((name,data,i,*judged(o, pairs[i][1])))
            p,a = (np.round(255*o.full(k)).astype(np.uint8) for k in ('prob','artery'))
            if data=='drive' and name.startswith('fold'): maps.append(np.dstack([p*0,a*(p>25),p]))
    if maps: cv2.imwrite(str(out/f'{name}.png'), np.concatenate(maps), [cv2.IMWRITE_PNG_COMPRESSION,9])
    t = pd.DataFrame(rows, columns=['net','data','image',*NAMES])
    t.to_csv(out/f'{name}.csv', index=False, float_format='%.5f')
    print(t.groupby(['net','data'])[[*NAMES]].mean().round(4).to_string(), flush=True)

def main(out, steps, data, *, seconds=700., device='cpu', phantoms=200, drawn_at=None, workers=0, size=12, side=448, most=None, seen=8):
    t0,out,root = time.time(),Path(out),Path(data)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    out.mkdir(parents=True, exist_ok=True)
    steps = [(o.split(':')+[''])[:3] for o in steps]
    names = [o for names,_,_ in steps for o in names.split('+')]
    pairs,real,PH = list(drive(root)),None,None
    last = max(seconds*.86, seconds-150) if most is None else seconds*.7 # the rest is for the figures
    for k,(step,part,start) in enumerate(steps):
        if PH is None and not all(o.startswith('scratch') for o in step.split('+')):
            PH = [torch.from_numpy(o).to(device) for o in drawn(Path(drawn_at or out/'phantoms.npz'), phantoms, workers)]
        if real is None: real = [torch.from_numpy(o).to(device) for o in versions(pairs, seen)] # workers come before the device
        left = last-(time.time()-t0)
        pupils = []
        for name in step.split('+'):
            keep = [i*seen+j for i in range(20) if i not in left_out(name) for j in [0]*(seen//2)+[*range(1, seen)]]
            share = 1. if name=='phantom' else 0. if name.startswith('scratch') else .2
            begin = start and (SHIPPED if start=='shipped' else out/f'{start}.safetensors')
            pupils.append(Pupil(name, real, PH, keep=torch.tensor(keep, device=device), share=share, start=begin, device=device,
                                lr=1e-3 if start in (name,'shipped') else 2e-3))
        print(f'{step}: {time.time()-t0:.0f} s after the start', flush=True)
        teach(pupils, left*float(part)/sum(float(o[1]) for o in steps[k:]), out, size=size, side=side)
    sets = dict(drive=pairs, hrf=list(hrf(root)))
    for name in sorted(names, key=lambda o: (o!='all',o)): # the shipped one first
        if time.time()-t0<seconds*.97: examined(name, sets if name in ('all','phantom') else dict(drive=pairs), out, device, most)
    print(f'{time.time()-t0:.0f} s in all', flush=True)

if __name__=='__main__':
    p = ArgumentParser()
    p.add_argument('out')
    p.add_argument('steps', nargs='+')
    p.add_argument('--data', default=os.environ.get('FUNDUS_TEST_DATA'))
    p.add_argument('--drawn', dest='drawn_at')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    for k,v in dict(seconds=700., phantoms=200, workers=0, size=12, side=448, most=None, seen=8).items():
        p.add_argument(f'--{k}', type=int if v is None else type(v), default=v)
    main(**vars(p.parse_args()))
