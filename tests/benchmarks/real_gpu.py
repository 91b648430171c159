"""The rows of real.csv that two CPU cores cannot make, on one graphics card.

python tests/benchmarks/real_gpu.py pack DATA WEIGHTS TO       small copies of pictures and weights: TO/r1, TO/r2
python tests/benchmarks/real_gpu.py work PACK... --out OUT --seconds N [--device cuda] [--lanes A,A,A,B,B] [--only WORDS] [--seeds N] [--few N]
python tests/benchmarks/real_gpu.py tell OUT TO/r2 CSV [KEEP DATA WEIGHTS]   figures of what came back, as rows of CSV;
                                   KEEP: real.py's folder of features, for sex and age beside its kernel readout

`work` goes through two lists of jobs in processes of its own and ends by itself; each fit is a line of OUT/LANE.jsonl as
soon as it is there, so what time cuts off is the tail; called again with the same OUT, the fits of list A's recipes are not done twice. Words of --only pick jobs: a job's name and arguments are to hold each
of them; | between alternatives, which are done in this order. DATA and WEIGHTS are those of real.py, whose five folds of patients
are dealt here too: one is held back, the next validates, three teach (auto's readout learns from four in the end, as in a run).
List A asks the recipe, by the library's own functions: `oct` on oct_dme, pictures kept ready (`cache`), mixed precision.
  fastai:  fastai's vision_learner and fine_tune(5), its layer groups, its last epoch
  tune:    one cycle, stages as layer groups;  auto: from the readout, RATE:EPOCHS:NORM (kept or learned)
List B asks the nets: a loop of its own (not the library's recipe) for sex, age and the eight labels of odir5k from one net,
trained without two of five folds, which it answers: so each fold has answers of four nets, and of each of these four the
fold that it did not see either, for choices within. And phantoms as pretraining: a Lite0 that learned lesions of drawn scans
or eyes beside ImageNet's, as a readout and tuned, of 50, 100, 200 and all patients.
List C asks what begins from nothing: `scratch`, a small search of rates and epochs, ResNets and a ConvNeXt, on oct_dme.

Run on 27 November 2026 on one NVIDIA H200 that four other programs used too (torch 2.11, CUDA 13, Python 3.12, 400 seconds):
of the lists, list A came to the end of Lite0's recipe, list B to six of Lite0's ten nets for sex and age. And on 28 November on
two cores of a processor, with --seeds 1: SqueezeNet's recipe, InceptionV3's (plain fastai on three folds of five, in another call on
all, `tune` on four), and
phantoms as pretraining (77 minutes) with the readouts. On 30 November on one core with bfloat16, --seeds 5: SqueezeNet's
recipe (93 minutes without the search), and of the rates of its `auto` two on all folds; and on two cores, in several calls with one
OUT, EfficientNet-Lite0's recipe with --seeds 5. The rest has been rehearsed, and not been run."""
import argparse, json, os, subprocess, sys, tempfile, time, warnings
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch
sys.path.insert(0, str(Path(__file__).parent))
from rows import put

ARCHS = dict(tf_efficientnet_lite0=224, inception_v3=299, squeezenet1_1=224, tf_efficientnet_lite2=260)
LITE0,PHANTOMS = 'tf_efficientnet_lite0',4000
PACKS = dict(r1=['inception_v3','squeezenet1_1',LITE0,'tf_efficientnet_lite2'], r2=[])
SETS = dict(oct=('oct','oct_dme','DME'), idrid=('referable','idrid','dr_grade'), odir=('sex','odir5k',None))
LABELS = ['normal','diabetic retinopathy','glaucoma','cataract','macular degeneration','hypertension','myopia','other']

# --- the parcel

def tabled(a):
    "An array as its distinct values and their numbers in it, where these are few; else 16 bits"
    a = np.asarray(a)
    v,at = np.unique(a, return_inverse=True)
    if len(v)<=256 and a.size>1000: return dict(v=v, at=at.reshape(a.shape).astype(np.uint8))
    if len(v)<=65536 and a.size>70000 and a.dtype!=np.float16: return dict(v=v, at=at.reshape(a.shape).astype(np.uint16))
    return dict(a=a)

def pack(data, weights, to):
    from real import folds, frame, picture, weights_of
    from fundus_fastai.vision.learner import read_weights
    for name,archs in PACKS.items():
        (to/name).mkdir(parents=True, exist_ok=True)
        for arch in archs:
            sd = {k:v.numpy() for k,v in read_weights(weights_of(arch, weights)).items() if not k.startswith('classifier')}
            np.savez_compressed(to/name/f'{arch}.npz', **{f'{k}|{p}':q for k,v in sd.items() for p,q in tabled(v).items()})
    for name,(task,folder,label) in SETS.items():
        df = frame(data, task, folder, label)
        side,gray = dict(oct=320, idrid=336, odir=256)[name],name=='oct'
        quality = dict(oct=88, idrid=88, odir=83)[name]
        raw = []
        for p,e in zip(df.path, df.eye):
            im = picture(str(p), gray, side, e=='L')
            raw.append(cv2.imencode('.webp', im[...,::-1], [cv2.IMWRITE_WEBP_QUALITY,quality])[1])
        np.save(to/'r2'/f'{name}.npy', np.concatenate(raw))
        fold = np.zeros(len(df), int)
        for i,v in enumerate(folds(df)): fold[v] = i
        keep = pd.DataFrame({k:df[k] for k in ('patient','eye','label')}).assign(file=[Path(p).name for p in df.path], fold=fold, n=[len(o) for o in raw])
        if name=='odir': keep = keep.assign(**{k:df[k] for k in ('age',*LABELS)})
        keep.to_csv(to/'r2'/f'{name}.csv', index=False)

def images(folder, name):
    "The packed pictures, RGB"
    raw,n = np.load(folder/f'{name}.npy'),pd.read_csv(folder/f'{name}.csv').n
    for a,b in zip(np.cumsum(n)-n, n): yield cv2.imdecode(raw[a:a+b], cv2.IMREAD_COLOR)[...,::-1]

def unpack(packs, to):
    "Weights as files of their nets, and small sets as folders of pictures"
    from safetensors.numpy import save_file
    for p in packs:
        for f in sorted(p.glob('*.npz')):
            z,sd = np.load(f),{}
            for k in z.files:
                n,_,part = k.rpartition('|')
                if part=='a': sd[n] = z[k]
                if part=='at': sd[n] = z[f'{n}|v'][z[k]]
            save_file({k:np.array(v, order='C') for k,v in sd.items()}, to/f'{f.stem}-.safetensors')
        for name in SETS:
            if name=='odir' or not (p/f'{name}.npy').exists(): continue
            (to/name).mkdir()
            for i,im in enumerate(images(p, name)):
                cv2.imwrite(str(to/name/f'{i}.png'), im[...,0] if name=='oct' else im[...,::-1], [cv2.IMWRITE_PNG_COMPRESSION,1])

# --- list A: the recipe

def rows(o, name, held):
    "The frame of a set, with the sides of the fold held back"
    df = pd.read_csv(o.packed/f'{name}.csv', dtype=dict(patient=str, label=str))
    split = np.full(len(df), 'train', dtype=object)
    split[df.fold==held],split[df.fold==(held+1)%5] = 'test','valid'
    df = df.assign(path=[str(o.tmp/name/f'{i}.png') for i in range(len(df))], split=split)
    if o.few: df = df[df.groupby(['split','label']).cumcount()<o.few//2].reset_index(drop=True)
    df.attrs['root'] = str(o.tmp/name)
    return df

def answers(learn, df):
    "The score of the second class, of the rows of `df`"
    learn.model.eval()
    p,out = next(learn.model.parameters()),[]
    with torch.inference_mode():
        for b in learn.dls.test_dl(df.reset_index(drop=True), bs=64, num_workers=0):
            z = learn.model(b[0].to(p.device).as_subclass(torch.Tensor)).float()
            out.append((z[:,1]-z[:,0]).cpu())
    return [round(float(v), 3) for v in torch.cat(out)]

def halved(o):
    "`mixed` where it is faster: on a card, and on a processor with bfloat16"
    from fundus_fastai.vision.learner import has_bf16
    return 'mixed' if o.device=='cuda' or has_bf16() else 'full'

def sides(learn, df): return dict(valid=answers(learn, df[df.split=='valid']), test=answers(learn, df[df.split=='test']))

def options(o, arch, fit, side=None, weights=None):
    from fundus_fastai.options import TrainOptions
    file = arch if '-' in arch else f'{arch}-'
    return TrainOptions(arch.partition('-')[0], weights=weights or str(o.tmp/f'{file}.safetensors'), size=side or ARCHS[arch], bs=32, workers=0,
                        fit=fit, recipe='none', cache=True, precision=halved(o))

def made(o, df, name, arch, fit, side=None, weights=None):
    from fundus_fastai.vision.steps import make_learner
    return make_learner(df, 'oct' if name=='oct' else 'anomaly', options(o, arch, fit, side, weights))

def auto(o, say, name, arch, held, configs, seeds, df=None, side=None, more=None):
    "Tuning from the readout, by each config and seed; the readout is solved once"
    from fundus_fastai.vision.learner import one_cycle_plan
    from fundus_fastai.vision.probe import refit_probe
    df,t = rows(o, name, held) if df is None else df,time.time()
    learn,kept = made(o, df, name, arch, 'auto', side),o.tmp/f'probe-{name}-{arch}-{held}.pt'
    if kept.exists() and not more: (state,learn.probed),seconds = torch.load(kept, weights_only=False),0
    else:
        learn.fit_probe()
        state,seconds = {k:v.detach().cpu().clone() for k,v in learn.model[1].state_dict().items()},time.time()-t
        if not more: torch.save((state,learn.probed), kept.with_suffix(f'.{os.getpid()}'))
        if not more: kept.with_suffix(f'.{os.getpid()}').rename(kept)
    learn.model[1].load_state_dict(state)
    probed,first = learn.probed,{k:v.detach().clone() for k,v in learn.model.state_dict().items()}
    if seconds: # by which the penalty was chosen, and fitted again to all but the fold held back
        z = sides(learn, df)
        refit_probe(learn)
        say(recipe='readout', seed=0, seconds=seconds, refit=answers(learn, df[df.split=='test']), **z, **(more or {}))
    for config in configs:
        rate,epochs,norm = config.split(':')
        for seed in seeds:
            t,got = time.time(),{}
            learn.model.load_state_dict(first)
            learn.probed = probed
            def fit(to_beat, cbs):
                plan = one_cycle_plan(o.epochs or int(epochs), 0, float(rate))
                hist = learn.fit_eye(plan, seed, to_beat=to_beat, cbs=cbs if norm=='kept' else [])
                got.update(sides(learn, df), epochs_loss=[round(float(v), 4) for v in hist.valid_loss])
                return hist
            with learn.no_bar(), learn.no_logging(): learn.tune_readout(fit)
            k = learn.kept
            say(recipe=f'auto {config}', seed=seed, seconds=time.time()-t, kept=k['kept'], gain=round(k['gain'], 5), se=round(k['se'], 5),
                readout_loss=round(k['readout']['valid_loss'], 5), **got, **(more or {}))

def tune(o, say, name, arch, held, seeds, precision='mixed', df=None, side=None, more=None, epochs=5, lr=2e-3):
    "One cycle, by the library"
    from fundus_fastai.vision.learner import one_cycle_plan
    from fundus_fastai.vision.steps import make_learner
    df = rows(o, name, held) if df is None else df
    for seed in seeds:
        t = time.time()
        torch.manual_seed(seed)
        opts = options(o, arch, 'tune', side)
        if precision=='full': opts = opts.but(precision='full')
        learn = make_learner(df, 'oct' if name=='oct' else 'anomaly', opts)
        with learn.no_bar(), learn.no_logging(): hist = learn.fit_eye(one_cycle_plan(o.epochs or epochs, 1, lr), seed)
        say(recipe=f'tune {lr:g}:{epochs}' + (' full' if precision=='full' else ''), seed=seed, seconds=time.time()-t,
            epochs_loss=[round(float(v), 4) for v in hist.valid_loss], **sides(learn, df), **(more or {}))

def scratch(o, say, name, arch, held, side, config, seeds):
    "One cycle of a net that knows nothing"
    from fundus_fastai.vision.learner import one_cycle_plan
    df,(rate,epochs) = rows(o, name, held),config.split(':')
    for seed in seeds:
        t = time.time()
        torch.manual_seed(seed)
        learn = made(o, df, name, arch, 'tune', side, 'none')
        plan = one_cycle_plan(o.epochs or int(epochs), 0, float(rate), pretrained=False)
        with learn.no_bar(), learn.no_logging(): learn.fit_eye(plan, seed)
        say(recipe=f'scratch {config}', side=side, seed=seed, seconds=time.time()-t, **sides(learn, df))

def fastai(o, say, name, arch, held, seeds):
    "fastai's own: `vision_learner`, `fine_tune(5)`; our weights, batches and augmentation"
    from fastai.vision.all import Normalize, set_seed, vision_learner
    from fundus_fastai.vision.learner import find_net, load_body, read_weights
    from fundus_fastai.vision.tasks import get_task
    df,net,opts = rows(o, name, held),find_net(arch),options(o, arch, 'tune')
    for seed in seeds:
        t = time.time()
        set_seed(seed)
        dls = get_task('oct' if name=='oct' else 'anomaly').dls(df, size=opts.size, bs=32, workers=0, recipe=None, cache=True)
        dls.add_tfms([Normalize.from_stats(net.mean, net.std, cuda=False)], 'after_batch')
        dls.to(dls.device)
        learn = vision_learner(dls, net.builder, pretrained=False, normalize=False, n_out=2)
        load_body(learn.model, read_weights(opts.weights), net)
        learn.freeze()
        if o.device=='cuda': learn.to_fp16()
        with learn.no_bar(), learn.no_logging(): learn.fine_tune(o.epochs or 5)
        say(recipe='fastai fine_tune', seed=seed, seconds=time.time()-t, **sides(learn, df))

# --- list B: sex and age from one net

def batchwise(x, idx, side, device, train, gen):
    "Float pictures [B,3,side,side] of the rows `idx`; turned, shifted and lit by lot in training"
    b = x[idx].to(device, non_blocking=True).permute(0, 3, 1, 2).float()/255
    b = b.expand(-1, 3, -1, -1)
    n = len(b)
    if not train:
        return b if b.shape[-1]==side else torch.nn.functional.interpolate(b, (side,side), mode='bilinear', antialias=b.shape[-1]>side)
    def lot(lo, hi, *shape): return torch.rand(*shape, device=device, generator=gen)*(hi-lo)+lo
    a,s = lot(-.35, .35, n),lot(.87, 1.1, n)
    m = torch.stack([torch.stack([a.cos()*s, -a.sin()*s, lot(-.05, .05, n)], 1), torch.stack([a.sin()*s, a.cos()*s, lot(-.05, .05, n)], 1)], 1)
    g = torch.nn.functional.affine_grid(m, (n,3,side,side), align_corners=False)
    b = torch.nn.functional.grid_sample(b, g, mode='bilinear', align_corners=False)
    return (b*lot(.8, 1.2, n, 1, 1, 1)*lot(.93, 1.07, n, 3, 1, 1)+lot(-.06, .06, n, 1, 1, 1)).clamp(0, 1)

class Loop:
    "A pretrained body and a linear layer, trained by one cycle with the mean of its weights kept beside"
    def __init__(self, o, arch, n_out, device, side, seed=0, rate=6e-4, decay=.99, drop=.2):
        import timm
        from fundus_fastai.vision.learner import find_net, read_weights
        torch.manual_seed(seed)
        torch.backends.cudnn.benchmark = True
        more = dict(drop_path_rate=.1) if 'efficientnet' in arch else {}
        self.net,self.device,self.side,self.rate,self.decay = timm.create_model(arch, num_classes=0, **more),device,side,rate,decay
        self.net.load_state_dict(read_weights(o.tmp/f'{arch}-.safetensors'), strict=False)
        self.net = torch.nn.Sequential(self.net, torch.nn.Dropout(drop), torch.nn.Linear(self.net.num_features, n_out))
        self.net.to(device, memory_format=torch.channels_last)
        found = find_net(arch)
        self.mean,self.std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (found.mean, found.std))
        self.gen = torch.Generator(device=device)
        self.gen.manual_seed(seed)
    def see(self, net, x, idx, train=False):
        b = batchwise(x, idx, self.side, self.device, train, self.gen)
        with torch.autocast(self.device, torch.bfloat16): return net(((b-self.mean)/self.std).contiguous(memory_format=torch.channels_last)).float()
    def fit(self, x, idx, y, loss, epochs, bs=64, told=None):
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
        body,head = self.net[0].parameters(),self.net[2].parameters()
        fused = dict(fused=True) if self.device=='cuda' else {}
        opt = torch.optim.AdamW([dict(params=body, lr=self.rate), dict(params=head, lr=3*self.rate)], weight_decay=.05, **fused)
        steps = max(8, max(1, len(idx)//bs)*epochs)
        cycle = torch.optim.lr_scheduler.OneCycleLR(opt, [self.rate, 3*self.rate], total_steps=steps, pct_start=.25)
        self.ema = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)
        rng = np.random.default_rng(0)
        for e in range(epochs):
            self.net.train()
            order,total = torch.as_tensor(rng.permutation(idx), device=x.device),0.
            for i in range(max(1, len(idx)//bs)):
                at = order[i*bs:(i+1)*bs]
                l = loss(self.see(self.net, x, at, True), y[at.to(y.device)])
                opt.zero_grad(set_to_none=True)
                l.backward()
                opt.step()
                cycle.step()
                self.ema.update_parameters(self.net)
                total = total+l.detach()
            if told: told(e, float(total)/max(1, len(idx)//bs))
        return self
    @torch.no_grad()
    def answer(self, x, idx):
        self.ema.eval()
        at = torch.as_tensor(idx, device=x.device)
        return torch.cat([self.see(self.ema, x, at[i:i+128]) for i in range(0, len(at), 128)]).cpu().numpy()

def people(o):
    "All eyes of odir5k on the device, what is asked of them, and their folds"
    df = pd.read_csv(o.packed/'odir.csv', dtype=dict(patient=str))
    if o.few: df = df.head(10*o.few)
    if not hasattr(o, 'eyes'):
        it,kept = images(o.packed, 'odir'),o.tmp/'eyes.npy'
        if kept.exists(): eyes = np.load(kept)
        else:
            eyes = np.stack([next(it) for _ in range(len(df))])
            np.save(kept.with_suffix(f'.{os.getpid()}.npy'), eyes)
            kept.with_suffix(f'.{os.getpid()}.npy').rename(kept)
        o.eyes = torch.from_numpy(eyes).to(o.device)
    age = df.age.where(df.age>1)
    y = np.column_stack([df.label.astype(str)==sorted(df.label.astype(str).unique())[-1], (age-57)/12, df[LABELS].astype(float)])
    return df,torch.tensor(y.astype(np.float32), device=o.device)

def sex_loss(z, y):
    f = torch.nn.functional
    known = (~y.isnan()).float()
    y = y.nan_to_num()
    age = f.smooth_l1_loss(z[:,1], y[:,1], beta=.3, reduction='none')
    ills = f.binary_cross_entropy_with_logits(z[:,2:], y[:,2:], reduction='none')
    sex = f.binary_cross_entropy_with_logits(z[:,0], y[:,0]*.9+.05)
    return sex + (age*known[:,1]).mean() + .5*(ills*known[:,2:]).mean()

def sex_age(o, say, arch, side, epochs, rate, pair, seed=0):
    "A net that learns from three folds answers the two others, after a third, two thirds and all of the epochs"
    df,y = people(o)
    t,fold = time.time(),df.fold.to_numpy()
    idx = np.flatnonzero(~np.isin(fold, pair))
    loop,losses = Loop(o, arch, y.shape[1], o.device, side, seed, rate),[]
    loop.fit(o.eyes, idx, y, sex_loss, o.epochs or epochs, told=lambda e, l: losses.append(round(l, 4)))
    z = loop.answer(o.eyes, np.flatnonzero(np.isin(fold, pair)))
    say(recipe=f'{arch} {side} {epochs} {rate:g}', pair=list(pair), seed=seed, seconds=time.time()-t, losses=losses,
        sex=[round(float(v), 3) for v in z[:,0]], age=[round(float(v)*12+57, 2) for v in z[:,1]])

# --- list B: phantoms as pretraining

def draw(o, say, kind):
    "Phantoms of 224 pixels and what is known of them"
    from fundus_fastai.phantom.fundus import FUNDUS_LESIONS, LABELS as NAMES, phantom_fundus
    from fundus_fastai.phantom.oct import LESIONS, phantom_oct
    t,ims,ys = time.time(),[],[]
    n,limit = (24 if o.few else PHANTOMS if kind=='oct' else PHANTOMS*3//4),(60 if kind=='oct' else 110)*(1 if o.device=='cuda' else 5)
    for i in range(n):
        if time.time()-t>limit: break
        if kind=='oct':
            p = phantom_oct(['NORMAL','DME','CNV','DRUSEN'][i%4], seed=9, patient=i, size=(248,256))
            known = [p.label==c for c in ('NORMAL','DME','CNV','DRUSEN')]+[c in p.masks for c in LESIONS]
            size = [p.severity]+[np.sqrt(p.masks[c].mean())*5 if c in p.masks else 0 for c in LESIONS]
        else:
            p = phantom_fundus(seed=9, patient=i, size=232, eye='R')
            known = [p.labels[c] for c in NAMES]+[c in p.masks for c in FUNDUS_LESIONS]+[p.grade>=g for g in (1,2,3,4)]
            box = [v/232 for v in (*p.disc, *p.fovea)]
            size = [np.sqrt(p.masks[c].mean())*5 if c in p.masks else 0 for c in FUNDUS_LESIONS]+box+[p.angles['artery']/90-1.5]
        ims.append(cv2.resize(p.image, (224,224), interpolation=cv2.INTER_AREA))
        ys.append((known,size))
    x = np.stack(ims)
    known,size = (np.array(v, np.float32) for v in zip(*ys))
    for k,v in dict(x=x[...,None] if x.ndim==3 else x, known=known, size=size).items(): np.save(o.tmp/f'phantom-{kind}-{k}.npy', v)
    (o.tmp/f'phantom-{kind}').touch()
    say(recipe=f'draw {kind}', seed=9, n=len(x), seconds=time.time()-t)

def pretrain(o, say, kind, epochs=10):
    "A Lite0 that has learned ImageNet and then phantoms; as float16 weights of timm's names"
    from safetensors.torch import save_file
    t = time.time()
    x,known,size = (torch.from_numpy(np.load(o.tmp/f'phantom-{kind}-{k}.npy')).to(o.device) for k in ('x','known','size'))
    y,n,k = torch.cat([known,size], 1),len(x),known.shape[1]
    f,losses = torch.nn.functional,[]
    def loss(z, y): return f.binary_cross_entropy_with_logits(z[:,:k], y[:,:k]) + f.smooth_l1_loss(z[:,k:], y[:,k:], beta=.2)
    cut = max(1, n//10)
    loop = Loop(o, LITE0, y.shape[1], o.device, 224, 0, 1e-3)
    loop.fit(x, np.arange(cut, n), y, loss, o.epochs or epochs, told=lambda e, l: losses.append(round(l, 4)))
    z = loop.answer(x, np.arange(cut))
    from fundus_fastai.score.metrics import auc
    aucs = [round(float(auc(known[:cut,i].cpu().numpy()==1, z[:,i])), 3) for i in range(k) if 0<float(known[:cut,i].sum())<cut]
    net = loop.ema.module[0].state_dict()
    save_file({a:v.half().contiguous() if v.is_floating_point() and v.ndim==4 else v.contiguous() for a,v in net.items()}, o.tmp/f'{LITE0}-phantom_{kind}.part')
    (o.tmp/f'{LITE0}-phantom_{kind}.part').rename(o.tmp/f'{LITE0}-phantom_{kind}.safetensors')
    say(recipe=f'pretrain {kind}', seed=0, n=n, seconds=time.time()-t, losses=losses, aucs=aucs)

def few(df, n, lot):
    "The rows of a frame with `n` patients in training and a quarter as many in validation, drawn by `lot`; all for 0"
    if not n: return df
    keep,rng = [df[df.split=='test']],np.random.default_rng(lot)
    for s,m in (('train',n),('valid',max(12, n//4))):
        g = df[df.split==s]
        who = pd.Series(rng.permutation(sorted(g.patient.unique())))
        got = g[g.patient.isin(set(who[:m]))]
        if got.label.nunique()<2: got = g[g.patient.isin({*who[:m], *g[~g.label.isin(set(got.label))].patient[:2]})]
        keep.append(got)
    new = pd.concat(keep, ignore_index=True)
    new.attrs.update(df.attrs)
    return new

def curve(o, say, kind, body, held):
    "Readouts of a body for 50, 100, 200 and all patients, three draws each; features of the whole set are heard once"
    from fundus_fastai.vision import probe
    name = 'oct' if kind=='oct' else 'idrid'
    df = rows(o, name, held)
    arch = LITE0 if body=='imagenet' else f'{LITE0}-phantom_{kind}'
    kept = o.tmp/f'heard-{name}-{body}.npy'
    if not kept.exists():
        learn = made(o, df, name, arch, 'readout', 224)
        np.save(kept.with_suffix(f'.{os.getpid()}.npy'), probe.features(learn.model[0], learn.dls.test_dl(df, bs=64, num_workers=0)))
        kept.with_suffix(f'.{os.getpid()}.npy').rename(kept)
    heard,at = np.load(kept),pd.Series(np.arange(len(df)), df.path)
    if o.few: heard = probe.features(made(o, df, name, arch, 'readout', 224).model[0], made(o, df, name, arch, 'readout', 224).dls.test_dl(df, bs=64, num_workers=0))
    names = sorted(df.label.unique())
    for n in (50, 100, 200, 0):
        for lot in range(3 if n else 1):
            some,t = few(df, n, lot),time.time()
            x,y = heard[at[some.path]],some.label.map(names.index).to_numpy(int)
            a,b = (some.split==s for s in ('train','valid'))
            mean,sd = x[a].mean(0),np.maximum(x[a].std(0), 1e-6*max(1., float(np.abs(x[a]).max())))
            x = ((x-mean)/sd).clip(-5, 5)
            _,c,_ = probe._best('class', x[a], y[a], x[b], y[b], 2)
            w,bias = probe._classes(x[a|b], y[a|b], c, 2)
            z = x[some.split=='test']@w.T+bias
            say(recipe=f'curve readout {body} {n}', seed=lot, seconds=time.time()-t, n=int((a|b).sum()), test=[round(float(v), 3) for v in z[:,1]-z[:,0]])

def curve_tuned(o, say, kind, body, held, n):
    name = 'oct' if kind=='oct' else 'idrid'
    df = few(rows(o, name, held), n, 0)
    arch = LITE0 if body=='imagenet' else f'{LITE0}-phantom_{kind}'
    tune(o, say, name, arch, held, [0], df=df, side=224, more=dict(curve=f'tuned {body} {n}'))

# --- the lists

def jobs(seeds=3):
    "Function and arguments, by worth"
    now,others = '2e-4:5:kept',['5e-4:5:kept','1e-3:5:kept','1e-4:5:kept','5e-4:10:kept','2e-4:5:learned','5e-4:5:learned']
    a,b,c = [],[],[]
    def recipe(arch, seeds):
        for h in range(5):
            a.append((auto, ('oct', arch, h, [now], seeds)))
            a.append((tune, ('oct', arch, h, seeds)))
            a.append((fastai, ('oct', arch, h, seeds)))
    def search(arch): a.extend((auto, ('oct', arch, h, others, [0])) for h in range(5))
    recipe(LITE0, [*range(seeds)])
    recipe('inception_v3', [*range(seeds)])
    search(LITE0)
    search('inception_v3')
    recipe('squeezenet1_1', [*range(seeds)])
    recipe('tf_efficientnet_lite2', [*range(seeds)])
    search('squeezenet1_1')
    search('tf_efficientnet_lite2')
    a.extend((tune, ('oct', LITE0, h, [0,1,2,3,4], 'full')) for h in range(5))
    a.extend((tune, ('oct', LITE0, h, [3,4])) for h in range(5))
    a.extend((auto, ('idrid', LITE0, h, [now,*others], [0], None, 336)) for h in range(5))
    pairs = [(i,j) for d in (1,2) for i,j in [(k,(k+d)%5) for k in range(5)]]
    b.append((draw, ('fundus',)))
    b.extend((sex_age, (LITE0, 256, 12, 6e-4, p)) for p in pairs)
    b.append((draw, ('oct',)))
    b.extend((pretrain, (k,)) for k in ('oct','fundus'))
    b.extend((curve, (k, w, h)) for k in ('oct','fundus') for h in range(5) for w in ('phantom','imagenet'))
    b.extend((sex_age, ('inception_v3', 299, 12, 4e-4, p)) for p in pairs)
    b.extend((curve_tuned, (k, w, h, n)) for n in (50, 0, 100, 200) for k in ('oct','fundus') for h in range(5) for w in ('phantom','imagenet'))
    b.extend((sex_age, ('tf_efficientnet_lite2', 256, 12, 6e-4, p)) for p in pairs)
    b.extend((sex_age, (LITE0, 256, 24, 6e-4, p)) for p in pairs)
    for config in ('2e-3:40','8e-3:40','2e-3:20','8e-3:20','5e-4:40','2e-3:80','8e-3:80'):
        c.extend((scratch, ('oct', k, h, 96, config, [0])) for k in ('resnet18','convnext_atto') for h in range(5))
        if config=='2e-3:40': c.extend((scratch, ('oct', 'resnet50', h, 224, config, [0])) for h in range(5))
    return dict(A=a, B=b, C=c)

def waits(o, f, args):
    "Is what the job needs not there yet?"
    if f is pretrain: return not (o.tmp/f'phantom-{args[0]}').exists()
    if f in (curve, curve_tuned): return not (o.tmp/f'{LITE0}-phantom_{args[0]}.safetensors').exists()

def without_done(f, args, rows_):
    "Arguments of a job less the seeds whose fits are among `rows_`, of an earlier call; `None` where none is left"
    if f not in (auto, tune, fastai): return args
    i = 4 if f is auto else 3
    asked = [f'auto {c}' for c in args[3]] if f is auto else ['fastai fine_tune'] if f is fastai else ['tune 0.002:5'+' full'*('full' in args)]
    had = {(r['recipe'],r['seed']) for r in rows_ if 'failed' not in r and r['what']==f.__name__ and r['args'][:3]==[str(v) for v in args[:3]]}
    seeds = [s for s in args[i] if any((a,s) not in had for a in asked)]
    return (*args[:i], seeds, *args[i+1:]) if seeds else None

def lane(o):
    "Do jobs of a list, then those of the other, until time is up; a line for each fit"
    torch.set_num_threads(2 if o.device=='cuda' else 1)
    cv2.setNumThreads(1)
    warnings.simplefilter('ignore')
    if o.device=='cpu':
        from fastai.torch_core import default_device
        default_device(False)
    from real import wanted
    lists,own = jobs(o.seeds),o.lane[0]
    todo = {} # in the order of lists, of the words that ask, and of the jobs
    for k in (own, *sorted(set(lists)-{own})):
        for words in o.only.split('|'):
            todo |= {(k,i):(k, i, f, args) for i,(f,args) in enumerate(lists[k]) if (k,i) not in todo and wanted(words, f.__name__, *args)}
    had = [json.loads(l) for f in sorted(o.out.glob('*.jsonl')) for l in f.read_text().splitlines()]
    todo = [(k, i, f, args) for k,i,f,args in ((k, i, f, without_done(f, args, had)) for k,i,f,args in todo.values()) if args]
    out = open(o.out/f'{o.lane}.jsonl', 'a')
    while todo and time.time()<o.until-8:
        for k,i,f,args in todo:
            if waits(o, f, args): continue
            todo.remove((k, i, f, args))
            try: (o.tmp/f'claim-{k}{i}').touch(exist_ok=False)
            except FileExistsError: break
            head = dict(what=f.__name__, args=[str(v) for v in args])
            def say(**more):
                if 'seconds' in more: more['seconds'] = round(more['seconds'], 2)
                out.write(json.dumps(dict(**head, at=round(time.time()-o.began, 1), **more))+'\n')
                out.flush()
            try: f(o, say, *args)
            except Exception as e: say(failed=f'{type(e).__name__}: {str(e)[:300]}')
            break
        else:
            if all(waits(o, f, a) for _,_,f,a in todo): time.sleep(1)

def work(o):
    "Unpack, start a process for each lane, and end them in time"
    o.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp:
        unpack(o.packs, Path(tmp))
        packed = next(p for p in o.packs if (p/'odir.csv').exists())
        card = torch.cuda.get_device_name() if o.device=='cuda' else 'CPU'
        call = f'--device {o.device} --lanes {o.lanes} --seeds {o.seeds} --seconds {o.seconds:.0f}' + (f' --only "{o.only}"' if o.only else '') + f' ({card})'
        (o.out/'machine.json').write_text(json.dumps(dict(card=card, call=call, torch=torch.__version__, cores=os.cpu_count(), unpacked=round(time.time()-o.began, 1))))
        env = os.environ|dict(FUNDUS_DATA=f'{tmp}/home', OMP_NUM_THREADS='2')
        call = [sys.executable, '-W', 'ignore', __file__, 'lane', str(packed), '--out', str(o.out), '--tmp', tmp, '--until', str(o.began+o.seconds-6),
                '--began', str(o.began), '--device', o.device, '--few', str(o.few), '--epochs', str(o.epochs), '--seeds', str(o.seeds), '--only', o.only]
        ps = [subprocess.Popen([*call, '--lane', f'{k}{i}'], env=env, stdout=subprocess.DEVNULL, stderr=open(o.out/f'{k}{i}.log', 'w')) for i,k in enumerate(o.lanes.split(','))]
        while any(p.poll() is None for p in ps) and time.time()<o.began+o.seconds-4: time.sleep(.5)
        for p in ps:
            if p.poll() is None: p.kill()
        for p in ps: p.wait()

# --- what came back

def lines(out):
    "Every fit that ended, a row each"
    rows_ = [json.loads(l) for f in sorted(out.glob('*.jsonl')) for l in f.read_text().splitlines()]
    return pd.DataFrame([r for r in rows_ if 'failed' not in r])

def loss_of(z, y): return float(np.mean(np.logaddexp(0, np.where(y, -1, 1)*np.asarray(z))))

def pooled(fits, df, key='test'):
    "Answers [N,seeds] by the seeds that have most folds, from fits with `held` and `seed`; NaN where a fold is missing"
    seeds = sorted(fits.seed.unique())
    res = np.full((len(df),len(seeds)), np.nan)
    for f in fits.itertuples(): res[df.fold==f.held,seeds.index(f.seed)] = getattr(f, key)
    n = (~np.isnan(res)).sum(0)
    return res[:,n==n.max()]

def seeds_auc(y, p, w=None):
    "The mean AUC of the columns of `p`, one a seed"
    from fundus_fastai.score.metrics import auc
    return np.mean([auc(y, p[:,i], w) for i in range(p.shape[1])], axis=0)

def told(y, p, who):
    "Mean AUC of the seeds with an interval by patients"
    from fundus_fastai.score.estimate import patient_bootstrap
    return patient_bootstrap(seeds_auc, y, p, patient=who)

def against(y, p, q, who):
    "Difference of the mean AUCs of two recipes on the same images, with an interval by patients"
    from fundus_fastai.score.compare import paired_bootstrap
    return paired_bootstrap(seeds_auc, y, (p, q), patient=who)

def read_oct(fits, df, name='oct'):
    "Fits of a set by net and recipe, `auto` and `readout` as a run would give them"
    a = fits[fits.what.isin(['auto','tune','fastai']) & fits.args.map(lambda v: v[0]==name)].copy()
    a['arch'],a['held'] = a.args.map(lambda v: v[1]),a.args.map(lambda v: int(v[2]))
    first = {(r.arch,r.held):r.refit for r in a[a.recipe=='readout'].itertuples()}
    kept = a.get('kept', pd.Series('', a.index)).eq('readout') # none where no `auto` was asked
    a['tuned'] = a.test
    a['final'] = [first[r.arch,r.held] if k or r.recipe=='readout' else r.test for r,k in zip(a.itertuples(), kept)]
    return a

def row(out, df, task, data, arch, side, recipe, e, ok, seconds, seeds, base):
    return dict(task=task, data=data, images=int(ok.sum()), patients=df.patient[ok].nunique(), net=arch, weights=arch, side=side, recipe=recipe,
                metric='auc', per='image', figure=round(float(e.value), 4), low=round(float(e.low), 4), high=round(float(e.high), 4), baselines=base,
                confounded='by patient numbers, and see contrast and border' if data=='oct_dme' else '', minutes=round(seconds/60, 1), seed=seeds,
                command=asked(out))

def asked(out):
    "The call that made a row"
    return f"tests/benchmarks/real_gpu.py work r1 r2 --out OUT {json.loads((out/'machine.json').read_text())['call']}"

SAID = {'readout':'readout, same copies', 'fastai fine_tune':'fastai fine_tune(5)', 'tune 0.002:5':'tune, 5 epochs', 'auto 2e-4:5:kept':'auto, 5 epochs',
        'auto 5e-4:5:kept':'auto, 5 epochs at 5e-4', 'auto 1e-3:5:kept':'auto, 5 epochs at 1e-3'}

def tell_oct(out, fits, df, base=''):
    "A row for each net and recipe, and what is paired"
    y,who,a,res = df.label.eq('1').to_numpy(),df.patient.to_numpy(),read_oct(fits, df),[]
    for arch,g in a.groupby('arch', sort=False):
        parts = {}
        for recipe,f in g.groupby('recipe', sort=False):
            p = pooled(f, df, 'final')
            ok = ~np.isnan(p).any(1)
            if not ok.any(): continue
            parts[recipe] = p
            e = told(y[ok], p[ok], who[ok])
            res.append(row(out, df, 'oct', 'oct_dme', arch, ARCHS[arch], SAID.get(recipe, recipe), e, ok, f.seconds.sum(), ' '.join(map(str, range(p.shape[1]))), base))
            print(f"{arch:24s} {recipe:24s} {ok.sum():4d} images, seeds {p.shape[1]}: {e.value:.4f} ({e.low:.4f} to {e.high:.4f})  "
                  f"by seed {[round(float(seeds_auc(y[ok], p[ok,i:i+1])), 4) for i in range(p.shape[1])]}  {f.seconds.mean():.1f} s a fold"
                  + (f"  kept tuned {f.kept.eq('tuned').mean():.2f}" if recipe.startswith('auto') else ''), flush=True)
        for one,other in (('tune 0.002:5','fastai fine_tune'),('auto 2e-4:5:kept','fastai fine_tune'),('readout','tune 0.002:5'),('auto 2e-4:5:kept','readout'),('tune 0.002:5','tune 0.002:5 full')):
            if one not in parts or other not in parts: continue
            ok = ~np.isnan(parts[one]).any(1) & ~np.isnan(parts[other]).any(1)
            d = against(y[ok], parts[one][ok], parts[other][ok], who[ok])
            print(f"   {arch}: {one} - {other}: {d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f}), {ok.sum()} images", flush=True)
    return res

def tell_search(fits, df, name='oct'):
    "Each config of `auto`: loss and AUC of validation folds, how often its tuned net is kept, and the pooled test"
    from fundus_fastai.score.metrics import auc
    a = read_oct(fits, df, name)
    a = a[(a.seed==0) & a.recipe.str.startswith('auto')]
    label = df.label.eq(sorted(df.label.unique())[-1]).to_numpy()
    for arch,g in a.groupby('arch', sort=False):
        n = g.groupby('recipe').held.nunique()
        full = set.intersection(*[set(v) for _,v in g.groupby('recipe').held]) if len(g) else set()
        g = g[g.held.isin(full)]
        print(f'{name} {arch}: folds that all have: {sorted(full)}; {n.to_dict()}')
        if not full: continue
        lv = g.assign(vl=[loss_of(r.valid, label[df.fold==(r.held+1)%5]) for r in g.itertuples()],
                      va=[auc(label[df.fold==(r.held+1)%5], np.array(r.valid)) for r in g.itertuples()],
                      tl=[loss_of(r.test, label[df.fold==r.held]) for r in g.itertuples()])
        at = np.isin(df.fold, list(full))
        for recipe,f in lv.groupby('recipe'):
            t,final = pooled(f, df, 'test')[at,0],pooled(f, df, 'final')[at,0]
            print(f"   {recipe:18s} valid loss {f.vl.mean():.4f} (readout {f.readout_loss.mean():.4f}) AUC {f.va.mean():.4f}; test loss of tuned {f.tl.mean():.4f}, "
                  f"AUC of tuned {auc(label[at], t):.4f}, of what is kept {auc(label[at], final):.4f}; kept {int(f.kept.eq('tuned').sum())} of {len(f)}; {f.seconds.mean():.1f} s")
        best = lv.loc[lv.groupby('held').vl.idxmin()]
        p = pooled(best, df, 'final')[at,0]
        print(f"   chosen by validation in each fold: {dict(zip(best.held, best.recipe))}: AUC of what is kept {auc(label[at], p):.4f}", flush=True)

def tell_scratch(out, fits, df, base=''):
    "A row for each net that began from nothing, its rate and its epochs"
    y,who,a,res = df.label.eq('1').to_numpy(),df.patient.to_numpy(),fits[fits.what=='scratch'].copy(),[]
    if not len(a): return res
    a['held'],a['arch'] = a.args.map(lambda v: int(v[2])),a.args.map(lambda v: v[1])
    for (arch,recipe,side),f in a.groupby(['arch','recipe','side'], sort=False):
        p = pooled(f, df)
        ok = ~np.isnan(p).any(1)
        if not ok.any(): continue
        e,(rate,epochs) = told(y[ok], p[ok], who[ok]),recipe.split()[1].split(':')
        print(f'{arch:14s} {side:.0f} px {recipe:16s} {f.held.nunique()} folds: {e.value:.4f} ({e.low:.4f} to {e.high:.4f})  {f.seconds.mean():.1f} s a fold', flush=True)
        res.append(row(out, df, 'scratch', 'oct_dme', arch, int(side), f'{epochs} epochs at {rate}', e, ok, f.seconds.sum(), '0', base)|dict(weights='none'))
    return res

def tell_curves(out, fits, sets):
    "Phantoms against ImageNet: AUC at 50, 100, 200 and all patients, and the paired difference; rows of both"
    res = []
    for kind,df in sets.items():
        y,who = df.label.eq(sorted(df.label.unique())[-1]).to_numpy(),df.patient.to_numpy()
        c = fits[fits.what.eq('curve') & fits.args.map(lambda v: v[0]==kind)].copy()
        t = fits[fits.what.eq('curve_tuned') & fits.args.map(lambda v: v[0]==kind)].copy()
        for part,how in ((c,'readout'),(t,'tuned')):
            if not len(part): continue
            part['held'] = part.args.map(lambda v: int(v[2]))
            for n in (50, 100, 200, 0):
                ps = {}
                for body in ('phantom','imagenet'):
                    f = part[part.recipe.eq(f'curve readout {body} {n}') if how=='readout' else part.args.map(lambda v: v[1]==body and v[3]==str(n))]
                    if len(f): ps[body] = pooled(f, df)
                ok = np.logical_and.reduce([~np.isnan(p).any(1) for p in ps.values()]) if len(ps)==2 else np.zeros(len(df), bool)
                if not ok.any(): continue
                d = against(y[ok], ps['phantom'][ok], ps['imagenet'][ok], who[ok])
                e = {k:told(y[ok], p[ok], who[ok]) for k,p in ps.items()}
                print(f"{kind} {how} n={n or 'all'}: " + ', '.join(f'{k} {v.value:.4f} ({v.low:.4f} to {v.high:.4f})' for k,v in e.items())
                      + f"; difference {d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f}); {ok.sum()} images, {ps['phantom'].shape[1]} draws", flush=True)
                seeds,data = ' '.join(map(str, range(ps['phantom'].shape[1]))),dict(oct='oct_dme', fundus='idrid')[kind]
                for body,v in (*e.items(), ('phantom less imagenet',d)):
                    said = f"{how}, {body} body, {n or 'all'} {'patients' if kind=='oct' else 'photographs'}"
                    one = row(out, df, 'pretraining', data, LITE0, 224, said, v, ok, part.seconds.sum(), seeds, '')
                    res.append(one|dict(metric='auc, difference') if v is d else one)
    return res

# --- sex and age of people: four nets answer each fold, and what is chosen is chosen within

PAIRS = [(i,j) for i in range(5) for j in range(i+1, 5)]

def pair(i, j): return tuple(sorted((i,j)))

def kernel_answers(keep, data, weights):
    "Ridge regressions on kernels of real.py's features, each without two folds: config -> pair -> answers; sex and age; patients"
    from types import SimpleNamespace
    from real import by_patient, folds, frame, gaussian, gram, looked
    o,df = SimpleNamespace(keep=keep, weights=weights, seed=0, epochs=1),frame(data, 'sex', 'odir5k', None)
    fold = np.zeros(len(df))
    for i,v in enumerate(folds(df)): fold[v] = i
    parts = [x for arch in ('squeezenet1_1',LITE0) for x in looked(o, df, 'odir5k', arch, 336)[:2]]
    asked = np.column_stack([df.label.astype(str)=='male', df.age.where(df.age>1)]).astype(float)
    one,asked,fold,*parts = by_patient(df, asked, fold[:,None], *parts)
    k,fold = gram(parts).astype(float),fold[:,0].round()
    res = {}
    for name,m in dict(linear=k, rbf=gaussian(k, 2)).items():
        for col,task in enumerate(('sex','age')):
            for p in PAIRS:
                y,held = asked[:,col],np.flatnonzero(np.isin(fold, p))
                a = np.flatnonzero(~np.isin(fold, p)&~np.isnan(y))
                for alpha in (.1, .3, 1., 3., 10.):
                    at = np.full(len(y), np.nan)
                    at[held] = m[np.ix_(held, a)]@np.linalg.solve(m[np.ix_(a, a)]+alpha*np.eye(len(a)), y[a]-y[a].mean())+y[a].mean()
                    res.setdefault((task,name,alpha), {})[p] = at
    return res,asked,fold,one

def net_answers(fits, df, who):
    "Means over the eyes of each of `who`: (task, recipe) -> pair -> answers, where each fold has two nets"
    at,res = pd.Index(who).get_indexer(df.patient),{}
    for r in fits[fits.what=='sex_age'].itertuples():
        m = df.fold.isin(r.pair).to_numpy()
        for task in ('sex','age'):
            n,s = np.bincount(at[m], minlength=len(who)),np.bincount(at[m], getattr(r, task), minlength=len(who))
            res.setdefault((task,r.recipe), {})[pair(*r.pair)] = np.where(n>0, s/np.maximum(n, 1), np.nan)
    return {k:v for k,v in res.items() if all(sum(i in p for p in v)>1 for i in range(5))} # each fold by two nets at least

def worse(task, y, p):
    "What a choice makes small"
    from fundus_fastai.score.metrics import auc
    ok = ~np.isnan(y)
    return -auc(y[ok]==1, p[ok]) if task=='sex' else float(np.abs(p-y)[ok].mean())

def nested(task, y, fold, kernels, nets):
    "The best kernel and the best weights (tenths) of it and the nets, by inner folds; the outer ones are answered by two to four of each"
    from itertools import product
    res,chosen = np.full(len(y), np.nan),[]
    for i in range(5):
        others = [j for j in range(5) if j!=i and all(pair(i, j) in m for m in nets)]
        truth = np.concatenate([y[fold==j] for j in others])
        def inner(m): return np.concatenate([m[pair(i, j)][fold==j] for j in others])
        def outer(m): return np.mean([m[pair(i, j)][fold==i] for j in range(5) if j!=i and pair(i, j) in m], 0)
        some,name = list(nets),[]
        if kernels:
            best = min(kernels, key=lambda k: worse(task, truth, inner(kernels[k])))
            some,name = [kernels[best],*some],[best[1:]]
        ins,outs = [inner(m) for m in some],[outer(m) for m in some]
        if task=='sex': # logits and shares on one scale, by what inner folds say
            at = [(v.mean(), v.std()) for v in ins]
            ins,outs = ([(v-m)/s for v,(m,s) in zip(vs, at)] for vs in (ins,outs))
        ways = [w for w in product(range(11), repeat=len(some)) if sum(w)==10]
        w = min(ways, key=lambda w: worse(task, truth, sum(a*v for a,v in zip(w, ins))/10))
        res[fold==i] = sum(a*v for a,v in zip(w, outs))/10
        chosen.append((*name, w))
    return res,chosen

def tell_people(out, fits, df, keep, data, weights):
    "Kernel readout, tuned nets, and both: rows of people"
    from fundus_fastai.score.compare import paired_bootstrap
    from fundus_fastai.score.estimate import event_estimate, patient_bootstrap
    from fundus_fastai.score.metrics import auc, mean_abs_error
    kernels,asked,fold,one = kernel_answers(keep, data, weights)
    who,res = one.patient.to_numpy(),[]
    nets = net_answers(fits, df, who)
    for col,task in enumerate(('sex','age')):
        y,mine = asked[:,col],{k[1]:v for k,v in nets.items() if k[0]==task}
        ks = {k:v for k,v in kernels.items() if k[0]==task}
        plans = {'kernel':(ks,[]), **{f'net {k}':({},[v]) for k,v in mine.items()}}
        if len(mine)>1: plans['nets'] = {},mine.values()
        if mine: plans['kernel and nets'] = ks,mine.values()
        got = {}
        for name,(a,b) in plans.items():
            got[name],chosen = nested(task, y, fold, a, list(b))
            ok = ~np.isnan(y)&~np.isnan(got[name])
            truth,p = y[ok].round(6),got[name][ok]
            e = event_estimate(auc, truth.astype(int), p, patient=who[ok]) if task=='sex' else patient_bootstrap(mean_abs_error, truth, p, patient=who[ok])
            line = f'{task} {name}: {e.value:.4f} ({e.low:.4f} to {e.high:.4f}), {ok.sum()} people; {chosen}'
            if name!='kernel':
                q,f = got['kernel'][ok],auc if task=='sex' else mean_abs_error
                d = paired_bootstrap(f, truth.astype(int) if task=='sex' else truth, (p, q), patient=who[ok])
                line += f'; less the kernel {d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f})'
            print(line, flush=True)
            recipe,_,more = name.partition(' ')
            two = ['squeezenet1_1',LITE0] if 'kernel' in name else []
            arch,side = more.split()[:2] if recipe=='net' else ('+'.join(dict.fromkeys([*two, *(k.split()[0] for k in mine if name!='kernel')])),336 if name=='kernel' else 'own')
            s = fits[fits.what.eq('sex_age')&(fits.recipe.eq(more) if recipe=='net' else name!='kernel')].seconds.sum()
            res.append(dict(task=task, data='odir5k', images=int(df.patient.isin(who[ok]).sum()), patients=int(ok.sum()), net=arch, weights=arch,
                            side=side, recipe=name.replace(f'net {arch}', 'tuned') if recipe=='net' else f'{name}, chosen within', metric='auc' if task=='sex' else 'mae', per='patient', figure=round(float(e.value), 4),
                            low=round(float(e.low), 4), high=round(float(e.high), 4), baselines='', confounded='', minutes=round(s/60, 1), seed='0',
                            command=asked(out)))
    return res

def tell(out, pack, csv=None, keep=None, data=None, weights=None):
    fits = lines(out)
    sets = {k:pd.read_csv(pack/f'{k}.csv', dtype=dict(patient=str, label=str)) for k in SETS}
    print(fits.groupby('what').agg(fits=('seconds','size'), seconds=('seconds','sum'), last=('at','max')))
    print(fits[fits.what.isin(['draw','pretrain'])].drop(columns=['test','valid'], errors='ignore')[['recipe','seconds','at']])
    known = pd.read_csv(csv) if csv else pd.DataFrame(dict(data=[], baselines=[]))
    base = next(iter(known[known.data=='oct_dme'].baselines.dropna()), '')
    done = tell_oct(out, fits, sets['oct'], base)
    tell_search(fits, sets['oct'])
    tell_search(fits, sets['idrid'], 'idrid')
    done += tell_scratch(out, fits, sets['oct'], base)
    done += tell_curves(out, fits, dict(oct=sets['oct'], fundus=sets['idrid']))
    if keep: done += tell_people(out, fits, sets['odir'], keep, data, weights)
    for o in done if csv else (): put(csv, **o)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['pack','work','lane','tell'])
    p.add_argument('where', nargs='*', type=Path)
    p.add_argument('--out', type=Path); p.add_argument('--tmp', type=Path); p.add_argument('--lane', default='A0')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu'); p.add_argument('--lanes', default='A,A,A,B,B'); p.add_argument('--only', default=''); p.add_argument('--seeds', type=int, default=3)
    for k in ('few','epochs'): p.add_argument(f'--{k}', type=int, default=0)
    for k in ('seconds','until','began'): p.add_argument(f'--{k}', type=float, default=time.time())
    o = p.parse_args()
    if o.what=='pack': return pack(*o.where)
    if o.what=='tell': return tell(*o.where)
    if o.what=='lane':
        o.packed = o.where[0]
        return lane(o)
    o.packs = o.where
    if o.what=='work': return work(o)

if __name__=='__main__': main()
