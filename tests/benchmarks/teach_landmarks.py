"""Teach the two nets of anatomy.landmarks anew, in two steps:

    FUNDUS_TEST_DATA=DIR python tests/benchmarks/teach_landmarks.py pack PACK.npz
    python tests/benchmarks/teach_landmarks.py teach PACK.npz OUT [--seconds 300] [--device cuda] [--jobs 4]

`pack` reads the real images once (some four minutes): fields of 208 px of idrid and heimed with their discs, and of odir5k's eyes of
PATIENTS WITH AN EVEN NUMBER, with nothing but the side in their file's name; windows round idrid's discs; the crops of drishti_gs_crops.
`teach` draws phantoms for a fifth of the time (`--jobs` processes), then trains four pairs of nets side by side on one card: `0`, `1`, `2`
leave out every third photograph of idrid, patient of heimed and crop; `all` leaves out none. By the clock: a faster machine sees more.

What a real eye teaches: its disc where a box or a middle is known; its side, as the odds that the disc's map lies right of the fovea's; and
every so often what the mean net finds in it and in its mirror image alike, where it is sure and the side agrees. All is drawn and
changed on the card. Run for the weights that are shipped (`all`) on 2026-11-27: --seconds 450 or so on one NVIDIA H200 beside three other
programs, 101 s of drawing, some 200 s and 105 s of training. Writes of each pair landmarks_NAME and cup_NAME.safetensors (half floats), errors_NAME.csv of what was left out, log.txt."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
import argparse, copy, io, tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch, torch.nn.functional as F
from safetensors.torch import save_file
from fundus_fastai.anatomy.landmarks import SIDE, WINDOW, LandmarkNet, cup_disc_ratio
from fundus_fastai.image.read import read_image
from fundus_fastai.image.recipe import circle_crop, field_of_view, field_window
from fundus_fastai.phantom.fundus import VIEWS, phantom_fundus

Q,BIG,NEAR = SIDE//4,208,160 # side of the first net's maps; of a packed field; of a window round idrid's discs
WIDTHS = dict(landmarks=(16,48,80), cup=(16,32,32))
NAMES = '0','1','2','all'

# ---- real pictures, packed

def encoded(im, quality=82): return cv2.imencode('.webp', im[...,::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()

def of_field(path, x=np.nan, y=np.nan, w=np.nan, h=np.nan):
    "The field of a photograph as a square, and an ellipse of the photograph in it, in shares of its side"
    im = read_image(path)
    f = field_of_view(im)
    x0,y0,a,b = field_window(f)
    return im,circle_crop(im, BIG, f),((x+.5-x0)/a, (y+.5-y0)/b, w/a, h/b)

def packed(root):
    "Of every picture: bytes of its file, and a row of what is known"
    d = pd.read_csv(root/'idrid/labels.csv')
    for i,o in enumerate(d[d.od_x.notna()].itertuples()):
        im,field,at = of_field(root/'idrid'/o.image, o.od_x, o.od_y, o.od_w, o.od_h)
        yield encoded(field),('idrid',o.image_id,i%3,*at)
        s = 2.8*max(o.od_w, o.od_h)
        M = np.array([[NEAR/s,0,NEAR/2-.5-o.od_x*NEAR/s],[0,NEAR/s,NEAR/2-.5-o.od_y*NEAR/s]])
        near = cv2.warpAffine(im, M, (NEAR,NEAR), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        yield encoded(near),('box',o.image_id,i%3,.5,.5,o.od_w/s,o.od_h/s)
    d = pd.read_csv(root/'heimed/labels.csv')
    for o in d[d.od_x.notna()].itertuples():
        yield encoded(of_field(root/'heimed'/o.image)[1]),('heimed',o.image_id,int(o.patient_guess[1:])%3,
                                                           *of_field(root/'heimed'/o.image, o.od_x, o.od_y)[2])
    for i,o in enumerate(pd.read_csv(root/'drishti_gs_crops/labels.csv').itertuples()):
        for kind,file in (('crop',o.image),('mask',o.mask)):
            im = cv2.resize(cv2.imread(str(root/'drishti_gs_crops'/file), int(kind=='crop')), (192,192),
                            interpolation=cv2.INTER_AREA if kind=='crop' else cv2.INTER_NEAREST_EXACT)
            yield encoded(im[...,::-1], 95) if kind=='crop' else cv2.imencode('.png', im)[1].tobytes(),(kind,o.image_id,i%3,*[np.nan]*4)
    d = pd.read_csv(root/'odir5k/full_df.csv')
    for o in d[d.ID%2==0].itertuples():
        yield encoded(of_field(root/'odir5k/preprocessed_images'/o.filename)[1]),('odir',o.filename,9,*[np.nan]*4)

def pack(to):
    files,rows = zip(*packed(Path(os.environ['FUNDUS_TEST_DATA'])))
    table = pd.DataFrame(rows, columns='kind name fold x y w h'.split()).to_csv(index=False)
    np.savez(to, files=np.frombuffer(b''.join(files), np.uint8), ends=np.cumsum([len(o) for o in files]),
             table=np.frombuffer(table.encode(), np.uint8))
    print(f'{len(files)} pictures, {Path(to).stat().st_size/1e6:.1f} MB')

def unpacked(path):
    "The table of a pack, and its pictures, RGB (masks: gray)"
    z = np.load(path)
    table,files = pd.read_csv(io.BytesIO(z['table'].tobytes()), dtype={'name':str}),np.split(z['files'], z['ends'][:-1])
    return table,[cv2.imdecode(o, 0) if k=='mask' else cv2.imdecode(o, 1)[...,::-1] for o,k in zip(files, table.kind)]

# ---- drawn pictures

def drawn(job):
    "Phantoms and pictures without an eye, drawn until the clock says so; the drawer's number is its seed"
    seed,until,to = job
    cv2.setNumThreads(1)
    whole,near,views = ([],[]),([],[]),(None,None,None,*VIEWS)
    for i in range(100_000):
        if time.time()>until and i>9: break
        far,k = i%4!=3,i//4*3+i%4
        o = phantom_fundus([] if k%3==0 else None, 7 if far else 8, seed*100_000+i, eye='RL'[i//2%2],
                           camera=views[k%len(views)] if far else ('near_disc','near')[i//4%2], size=BIG if far else 352)
        (a,b,c,d),(e,f,g,h),(p,q,r,s) = (np.array(v)/len(o.image) for v in (o.disc, o.fovea, o.cup))
        x,y = whole if far else near
        x.append(o.image)
        y.append(((a+c)/2,(b+d)/2,c-a,d-b,(e+g)/2,(f+h)/2,r-p,s-q))
    rng = np.random.default_rng(seed)
    np.savez(to, x=whole[0], y=np.array(whole[1], np.float32), nx=near[0], ny=np.array(near[1], np.float32),
             none=[nothing(rng, whole[0]) for _ in range(150)])
    return len(whole[0]),len(near[0])

def nothing(rng, phantoms):
    "A picture without an eye: clouds, a shuffled phantom, layers of a scan"
    k = rng.integers(3)
    if k==0: return cv2.resize(rng.integers(0, 255, (int(rng.integers(3,40)),)*2+(3,)).astype(np.uint8), (BIG,BIG), interpolation=cv2.INTER_CUBIC)
    if k==1:
        o,n = phantoms[rng.integers(len(phantoms))],BIG//4
        b,q = [o[i*n:i*n+n,j*n:j*n+n] for i in range(4) for j in range(4)],rng.permutation(16)
        return np.vstack([np.hstack([b[q[4*i+j]] for j in range(4)]) for i in range(4)])
    o = np.full((BIG,BIG,3), rng.integers(0, 90), np.uint8)
    for _ in range(int(rng.integers(2, 7))):
        x = np.arange(BIG)
        y = rng.uniform(.2, .8)*BIG+rng.uniform(2, 14)*np.sin(x/rng.uniform(15, 60))
        color = rng.integers(60, 255, 3).tolist() if rng.random()<.4 else (int(rng.integers(90, 230)),)*3
        cv2.polylines(o, [np.stack([x,y], 1).astype(np.int32)], False, color, int(rng.integers(1, 14)))
    return o

# ---- on the card. Points run from -1 to 1 over a picture, as `grid_sample` has them

class Source:
    "Pictures on the device, and what is known of each (not: NaN): `disc`, `fovea`, `size` of the disc, `side` (1 right, -1 left, 0 unknown)"
    def __init__(self, x, device, *, disc=None, fovea=None, size=None, side=None, masks=None, none=False):
        def there(o, *shape): return torch.full((len(x),*shape), torch.nan, device=device) if o is None else torch.tensor(np.asarray(o, np.float32), device=device)
        self.x = torch.from_numpy(np.ascontiguousarray(np.stack(x).transpose(0, 3, 1, 2))).to(device)
        self.disc,self.fovea,self.size = there(disc, 2)*2-1,there(fovea, 2)*2-1,there(size, 2)*2
        self.side = torch.zeros(len(x), device=device) if side is None else there(side)
        self.masks = None if masks is None else torch.from_numpy(np.stack(masks)).to(device)
        self.none = none

def between(a, b, *shape, like): return a+(b-a)*torch.rand(*shape, device=like.device)

def turned(n, zoom, degrees, like):
    "Matrices [n,2,2] that turn, enlarge and perhaps mirror; their inverses; and who is mirrored"
    t,flip = between(-degrees, degrees, n, like=like)*torch.pi/180,torch.rand(n, device=like.device)<.5
    s = torch.where(flip, -1., 1.)
    A = zoom[:,None,None]*torch.stack([torch.stack([t.cos()*s,-t.sin()], -1), torch.stack([t.sin()*s,t.cos()], -1)], -2)
    return A,A.transpose(1, 2)/zoom[:,None,None]**2,s

def centers(n, like): return (torch.arange(n, device=like.device)+.5)*2/n-1

def seen(x, inverse, middle, side, padding='zeros'):
    "The pictures through the matrices, `middle` of the source at the middle of the new one"
    g = torch.stack(torch.meshgrid(centers(side, x), centers(side, x), indexing='xy'), -1)
    g = torch.einsum('nij,hwj->nhwi', inverse, g)+middle[:,None,None]
    return F.grid_sample(x.float(), g, mode='bilinear', padding_mode=padding, align_corners=False)

def light(x):
    "Other light, color, focus and grain for pictures of 0 to 1"
    n,side = len(x),x.shape[-1]
    def u(a, b, *shape): return between(a, b, n, *shape, like=x)
    some = lambda p: torch.rand(n, 1, 1, 1, device=x.device)<p
    x = x.clamp(1e-4, 1)**u(.55, 1.7, 1, 1, 1)*u(.7, 1.25, 3, 1, 1)+.03*torch.randn(n, 3, 1, 1, device=x.device)
    x = torch.where(some(.15), x*.3+x.mean(1, keepdim=True)*.7, x)
    shade = F.interpolate(torch.randn(n, 1, 4, 4, device=x.device), (side,side), mode='bicubic')
    x = torch.where(some(.4), x*(1+.2*shade), x)
    for k in (2,3):
        blunt = F.interpolate(F.interpolate(x, scale_factor=1/k, mode='area'), (side,side), mode='bilinear')
        x = torch.where(some(.15), blunt, x)
    return (x+torch.where(some(.4), u(.005, .03, 1, 1, 1), 0.)*torch.randn_like(x)).clamp(0, 1)

def spoiled(x):
    "Bright spots and a bright rim in some, which are no discs; a round field, or one cut off, in some"
    n,c = len(x),centers(x.shape[-1], x)
    r = torch.hypot(c[None,:], c[:,None])
    def u(a, b, *shape): return between(a, b, n, *shape, like=x)
    at,w = u(-.7, .7, 4, 2),u(.02, .1, 4, 1, 1)
    spots = torch.exp(-((c[None,None,None,:]-at[:,:,0,None,None])**2+(c[None,None,:,None]-at[:,:,1,None,None])**2)/(2*w**2))
    spots = (spots*u(-.1, .4, 4, 1, 1)).sum(1)*(u(0, 1, 1, 1)<.3)
    turn = torch.cos(torch.atan2(c[None,:,None], c[None,None,:])-u(0, 6.3, 1, 1))
    rim = torch.exp(-((r-u(.85, 1., 1, 1))/u(.03, .12, 1, 1))**2)*(turn-.6).clamp(0)*u(.3, 1.6, 1, 1)*(u(0, 1, 1, 1)<.2)
    color = torch.cat([torch.ones_like(x[:,:1,:1,:1]), u(.7, 1, 1, 1, 1), u(.2, .8, 1, 1, 1)], 1)
    x = torch.where(x.amax(1, keepdim=True)>.08, x+(spots+rim)[:,None]*color, x)
    keep = (r<torch.where(u(0, 1, 1, 1)<.25, u(.86, .98, 1, 1), 2.))&(c[:,None].abs()<torch.where(u(0, 1, 1, 1)<.3, u(.6, .95, 1, 1), 2.))
    return x*keep[:,None]

def standard(x):
    "As `anatomy.landmarks.standard`, for many pictures of 0 to 1"
    a,m = x*255,(x.amax(1, keepdim=True)>24/255).float()
    m = torch.where(m.sum((2,3), keepdim=True)<99, 1., m)
    n = m.sum((2,3), keepdim=True)
    mean = (a*m).sum((2,3), keepdim=True)/n
    sd = (((a-mean)**2*m).sum((2,3), keepdim=True)/n).sqrt()
    return ((a-mean)/(sd+4)).clamp(-3, 3)

def quick(net, x):
    with torch.autocast(x.device.type, torch.bfloat16): return net(x.contiguous(memory_format=torch.channels_last)).float()

# ---- the whole field

def heat(p):
    "A small Gaussian round points [n,2], of sum one [n,Q,Q]"
    c,w = centers(Q, p),2*(1.1*2/Q)**2
    g = torch.exp(-(c[None,None,:]-p[:,0,None,None])**2/w)*torch.exp(-(c[None,:,None]-p[:,1,None,None])**2/w)
    return g/g.sum((1,2), keepdim=True).clamp(1e-6)

def field_lot(s, n):
    "Of `n` pictures of a source: input, target maps, what of them counts, pixels of the disc, whether they count, side"
    i = torch.randint(len(s.x), (n,), device=s.x.device)
    zoom = between(.8, 1.3, n, like=s.disc)
    A,B,flip = turned(n, zoom, 15, s.disc)
    middle = between(-.2, .2, n, 2, like=s.disc)
    x = spoiled(light(seen(s.x[i], B, middle, SIDE)/255))
    maps,counts = [],[]
    for k in (s.disc, s.fovea):
        p = torch.einsum('nij,nj->ni', A, k[i]-middle)
        inside = p.abs().amax(1)<1
        j = ((p.nan_to_num()+1)/2*SIDE).long().clamp(0, SIDE-1)
        inside &= x.amax(1)[torch.arange(n, device=x.device),j[:,1],j[:,0]]>.08
        known = ~p[:,0].isnan()
        maps.append(torch.where(inside[:,None,None], heat(p.nan_to_num()), 1/Q**2))
        counts.append(torch.where(known, torch.where(inside, 1., .1), .3*s.none))
    p,r = torch.einsum('nij,nj->ni', A, s.disc[i]-middle),s.size[i]/2*zoom[:,None]
    c = centers(Q, x)
    disc = ((c[None,None,:]-p[:,0,None,None])/r[:,0,None,None])**2+((c[None,:,None]-p[:,1,None,None])/r[:,1,None,None])**2<=1
    shown = ~r[:,0].isnan()|s.none
    return standard(x),torch.stack(maps, 1),torch.stack(counts, 1),disc.float(),shown.float(),s.side[i]*flip

def odds(o):
    "Probability that the disc lies right of the fovea, by the two maps [n,2,Q,Q]"
    d,f = o.flatten(2).softmax(-1).reshape(o.shape).sum(2).unbind(1)
    return (d*(f.cumsum(1)-.5*f)).sum(1)

def field_loss(o, maps, counts, disc, shown, side):
    "Cross-entropy of where the points are, of the disc's pixels, and of the side"
    ce = -(maps.flatten(2)*o[:,:2].flatten(2).log_softmax(-1)).sum(-1)
    px = F.binary_cross_entropy_with_logits(o[:,2], disc, pos_weight=torch.tensor(4., device=o.device), reduction='none').mean((1,2))
    right = odds(o[:,:2])
    wrong = -(.02+.98*torch.where(side>0, right, 1-right)).log()
    return (ce*counts).sum()/counts.sum()+2*(px*shown).sum()/shown.sum()+.6*(wrong*side.abs()).sum()/side.abs().sum().clamp(1)

@torch.no_grad()
def found(net, x):
    "Disc and fovea [n,2,2] by the net in whole pictures and their mirror images, how sure [n,2], and the odds of the right"
    at,sure,right = [],[],[]
    for x in x.split(128):
        x = standard(F.interpolate(x.float(), (SIDE,SIDE), mode='bilinear')/255)
        o = (quick(net, x)[:,:2]+quick(net, x.flip(3))[:,:2].flip(3))/2
        p,c = o.flatten(2).softmax(-1).reshape(o.shape),centers(Q, x)
        w = F.avg_pool2d(p, 5, 1, 2)
        j = w.flatten(2).argmax(-1)
        def there(k): return (F.avg_pool2d(p*k, 5, 1, 2)/w).flatten(2).gather(2, j[...,None])[...,0]
        at.append(torch.stack([there(c[None,:]), there(c[:,None])], -1))
        sure.append(25*w.flatten(2).amax(-1))
        right.append(odds(o))
    return torch.cat(at),torch.cat(sure),torch.cat(right)

def believe(net, sources):
    "Where the net is sure of what is not known of real eyes, and the side agrees, take it for known"
    n = 0
    for s in sources:
        at,sure,right = found(net, s.x)
        d,side = at[:,0]-at[:,1],torch.where(s.side==0, torch.sign(right-.5), s.side)
        good = (d[:,0]*side>0)&(d.norm(dim=1)>.35)&(d.norm(dim=1)<1.2)&(sure.amin(1)>.5)
        for k,known,p in ((s.disc, s.disc_known, at[:,0]), (s.fovea, s.fovea_known, at[:,1])):
            k.copy_(torch.where(known[:,None], k, torch.where(good[:,None], p, torch.nan)))
        n += good.float().mean().item()/len(sources)
    return n

# ---- the window

def near_lot(s, n, use, small, large, off=.1):
    "Of `n` pictures of a source: windows round the disc, masks at a quarter of their side, and what counts"
    i = torch.randint(len(s.x), (n,), device=s.x.device)
    side = s.size[i].amax(1)*between(small, large, n, like=s.size)
    _,B,_ = turned(n, 2/side, 12, s.size)
    middle = s.disc[i]+off*s.size[i]*torch.randn(n, 2, device=side.device).clamp(-2, 2)
    x = seen(s.x[i], B, middle, 2*WINDOW, 'border')
    m = seen(s.masks[i], B, middle, WINDOW)
    x = light(F.avg_pool2d(x, 2)/255)
    return standard(x),F.avg_pool2d(m, 4),torch.tensor([use], device=x.device).expand(n, 2).float()

def outline_loss(o, t, use):
    "Cross-entropy and overlap (Dice) of disc and cup"
    p,b = torch.sigmoid(o),F.binary_cross_entropy_with_logits(o, t, reduction='none').mean((2,3))
    dice = 1-(2*(p*t).sum((2,3))+5)/(p.sum((2,3))+t.sum((2,3))+5)
    return ((b+dice)*use).sum()/use.sum()

def ellipses(y, side):
    "Masks of disc and cup of phantoms or boxes, uint8 [2,side,side]"
    m = np.zeros((2,side,side), np.uint8)
    for k,(w,h) in enumerate((y[2:4], y[6:8] if len(y)>4 else (0,0))):
        if w>0: cv2.ellipse(m[k], ((y[0]*side-.5,y[1]*side-.5),(w*side,h*side),0), 1, -1)
    return m

# ---- training

def halves(net): return {k:(v.half() if v.is_floating_point() else v).contiguous().cpu() for k,v in net.state_dict().items()}

def saved(net, to):
    part = to.with_suffix('.part')
    save_file(halves(net), part)
    os.replace(part, to)

def train(net, lot, loss, to, *, device, until, say, now_and_then=None, lr=3e-3):
    "Train until the clock says so, in bfloat16 and channels last; the mean of the last weights, saved now and then"
    net = net.to(device, memory_format=torch.channels_last)
    mean,opt = copy.deepcopy(net).eval().requires_grad_(False),torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-4, fused=device=='cuda')
    pairs = [(a,b) for a,b in zip(mean.state_dict().values(), net.state_dict().values()) if a.is_floating_point()]
    ours,theirs = map(list, zip(*pairs))
    t0,n,last = time.time(),0,0
    while (s := (time.time()-t0)/(until-t0))<1:
        for g in opt.param_groups: g['lr'] = lr*min(1, s/.03)*(1-s)**.8+1e-5
        x,*y = lot()
        l = loss(quick(net, x), *y)
        opt.zero_grad()
        l.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.)
        opt.step()
        n += 1
        torch._foreach_lerp_(ours, theirs, 1-min(.998, n/(n+9)))
        if s>last+.05:
            last = s
            more = f', {now_and_then(mean):.3f} believed' if now_and_then and s>.25 and n>=300 else ''
            say(f'{to.stem}: {n} lots of {len(x)}, {time.time()-t0:.0f} s, loss {l.item():.3f}{more}')
            saved(mean, to)
    saved(mean, to)
    return mean

def teach_one(name, pack, drawings, out, device, ends, lot):
    "The two nets that leave out the fold `name`, and their errors there"
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(NAMES.index(name))
    if device=='cuda': torch.backends.cudnn.benchmark = True
    def say(o):
        with open(out/'log.txt', 'a') as f: f.write(o+'\n')
        print(o, flush=True)
    table,images = unpacked(pack)
    fold = -1 if name=='all' else int(name)
    def of(kind, left_out=False):
        i = np.flatnonzero((table.kind==kind)&((table.fold==fold)==left_out))
        return table.iloc[i],[images[k] for k in i]
    z = [np.load(o) for o in drawings]
    X,Y,none,NX,NY = (np.concatenate([o[k] for o in z]) for k in ('x','y','none','nx','ny'))
    eyes,real = Source(X, device, disc=Y[:,:2], fovea=Y[:,4:6], size=Y[:,2:4], side=np.sign(Y[:,0]-Y[:,4])),{}
    blank = Source(none, device, none=True)
    for k in ('idrid','heimed','odir'):
        d,x = of(k)
        side = np.where(d.name.str.contains('right'), 1, -1) if k=='odir' else np.sign(d.x-.5)*(abs(d.x-.5)>.15)
        real[k] = s = Source(x, device, disc=d[['x','y']], size=d[['w','h']], side=side)
        s.disc_known,s.fovea_known = ~s.disc[:,0].isnan(),~s.fovea[:,0].isnan()
    def whole():
        parts = (eyes,.38),(real['odir'],.32),(real['idrid'],.17),(real['heimed'],.06),(blank,.07)
        return [torch.cat(o) for o in zip(*[field_lot(s, max(1, round(lot*k))) for s,k in parts])]
    net = train(LandmarkNet(3, WIDTHS['landmarks']), whole, field_loss, out/f'landmarks_{name}.safetensors', device=device, until=ends[0],
                say=say, now_and_then=lambda net: believe(net, real.values()))
    rows = []
    for k in ('idrid','heimed') if fold>=0 else ():
        d,x = of(k, True)
        at,sure,right = (o.cpu().numpy() for o in found(net, Source(x, device).x))
        e = np.hypot(*(((at[:,0]+1)/2-d[['x','y']])).to_numpy().T)
        rows.append(pd.DataFrame(dict(kind=k, name=d.name, error=e, sure=sure[:,0], right=right, true=np.sign(d.x-.5))))
    del eyes,real,blank
    d,x = of('box')
    boxes = Source(x, device, disc=d[['x','y']], size=d[['w','h']], masks=[ellipses(o, NEAR) for o in d[['x','y','w','h']].to_numpy()])
    near = Source(NX, device, disc=NY[:,:2], size=NY[:,2:4], masks=[ellipses(o, 352) for o in NY])
    (d,x),(_,m) = of('crop'),of('mask')
    def grown(o, how): return cv2.copyMakeBorder(o, *(60,)*4, how, value=0)
    m = [grown(o, cv2.BORDER_CONSTANT) for o in m]
    size = [(np.ptp(np.nonzero(o.any(0))[0])/312, np.ptp(np.nonzero(o.any(1))[0])/312) for o in m]
    crops = Source([grown(o, cv2.BORDER_REFLECT_101) for o in x], device, disc=np.full((len(x),2), .5), size=size,
                   masks=[np.stack([o>0, o==2]).view(np.uint8) for o in m])
    def windows():
        parts = (crops,.5,[1,1],1.05,1.4,.03),(boxes,.18,[1,0],1.2,2.6),(near,.32,[1,.4],1.1,2.6)
        return [torch.cat(o) for o in zip(*[near_lot(s, max(1, round(lot*k)), *more) for s,k,*more in parts])]
    net = train(LandmarkNet(2, WIDTHS['cup']), windows, outline_loss, out/f'cup_{name}.safetensors', device=device, until=ends[1], say=say)
    if fold<0: return
    (d,x),(_,m) = of('crop', True),of('mask', True)
    true = np.array([np.ptp(np.nonzero((o==2).any(1))[0])/np.ptp(np.nonzero(o.any(1))[0]) for o in m])
    net = copy.deepcopy(net).float().cpu().to(memory_format=torch.contiguous_format)
    said = np.array([cup_disc_ratio(o, net) for o in x])
    rows.append(pd.DataFrame(dict(kind='crop', name=d.name, error=abs(said-true), said=said, true=true)))
    rows = pd.concat(rows)
    rows.to_csv(out/f'errors_{name}.csv', index=False)
    for k,g in rows.groupby('kind'): say(f'{name} left out {k}: n {len(g)}, error: mean {g.error.mean():.4f}, median {g.error.median():.4f}, '
                                         f'over .07: {(g.error>.07).sum()}')

def teach(pack, out, seconds, device, jobs, lot, nets):
    t0,out = time.time(),Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if device=='cuda' and not torch.cuda.is_available(): device = 'cpu'
    with tempfile.TemporaryDirectory() as tmp:
        work = [(k, t0+.22*seconds, f'{tmp}/{k}.npz') for k in range(jobs)]
        with ProcessPoolExecutor(jobs, get_context('spawn')) as p: n = np.sum(list(p.map(drawn, work)), 0)
        with open(out/'log.txt', 'a') as f: f.write(f'{device}; {n[0]} phantoms, {n[1]} near ones, {time.time()-t0:.0f} s\n')
        ends = t0+.72*seconds-4,t0+.96*seconds-8
        rows = [(o, pack, [w[2] for w in work], out, device, ends, lot) for o in nets]
        running = [get_context('spawn').Process(target=teach_one, args=o) for o in rows]
        for o in running: o.start()
        for o in running: o.join(max(.1, t0+seconds-1-time.time()))
        for o in running:
            if o.is_alive(): o.kill()
    print(f'{time.time()-t0:.0f} s')

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('what', choices=['pack','teach'])
    p.add_argument('pack')
    p.add_argument('out', nargs='?')
    p.add_argument('--seconds', type=float, default=300)
    p.add_argument('--device', default='cuda')
    p.add_argument('--jobs', type=int, default=4, help='processes that draw')
    p.add_argument('--lot', type=int, default=96)
    p.add_argument('--nets', nargs='+', choices=NAMES, default=NAMES)
    a = p.parse_args(argv)
    if a.what=='pack': pack(a.pack)
    else: teach(a.pack, a.out, a.seconds, a.device, a.jobs, a.lot, a.nets)

if __name__=='__main__': main()
