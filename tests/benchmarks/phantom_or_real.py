"""Can a net tell phantoms from photographs, and painted lesions from real ones?

python tests/benchmarks/phantom_or_real.py DATA WEIGHTS [--images 120 --resamples 1000]

A linear probe on features of a frozen ImageNet net (tf_efficientnet_lite0, WEIGHTS) at 256 pixels, cut to the field, is asked to tell photographs of
idrid from phantoms, from phantoms photographed again (blur, light, grain, compression as in teach_lesions.py), and photographs with retinopathy (idrid, grade
2 and more) from healthy ones of idrid, and from these with lesions painted in. Each eye is in one fold alone, so no ground helps to tell its own
copies; AUC with 95 % by eye. .5: it cannot tell. A probe that tells them says that a difference is there, not that it matters for lesions."""
import argparse
from pathlib import Path
import cv2, numpy as np, pandas as pd, timm, torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import teach_lesions as T
from fundus_fastai.anatomy.lesion_net import LesionFrame
from fundus_fastai.image.read import read_image
from fundus_fastai.phantom.fundus import phantom_fundus

torch.set_num_threads(1)

def features(net, ims, size=256):
    out = []
    for im in ims:
        x = cv2.resize(im, (size,size), interpolation=cv2.INTER_AREA)
        x = (torch.from_numpy(x).permute(2,0,1)[None].float()/255-.5)/.5
        with torch.no_grad(): out.append(net.forward_head(net.forward_features(x), pre_logits=True)[0].numpy())
    return np.stack(out)

def square(im):
    "The field of a picture as a square of the lesion net's side, black outside"
    f = LesionFrame(im)
    return f.image*f.mask[...,None],f.mask

def again(b, im, mask):
    "The picture photographed again"
    a,m = torch.from_numpy(im).permute(2,0,1)[None].float(),torch.from_numpy(mask)[None,None].float()
    with torch.no_grad(): return b.degrade(a, m)[0].byte().permute(1,2,0).numpy()

def painted(b, im, mask, i):
    "The picture with lesions painted in"
    _,depth,bits = T.layer((17,i))
    a,d = im.astype(np.float32),depth.astype(np.float32)
    return ((a*np.exp(d[:3].transpose(1,2,0))+np.stack([0*d[3],0*d[3],d[3]], 2)).clip(0,255)*mask[...,None]).round().astype(np.uint8)

def told(name, a, b, who_a, who_b, resamples):
    "AUC of the probe for `b` against `a`, folds by eye"
    x,y,g = np.concatenate([a,b]),np.r_[np.zeros(len(a)),np.ones(len(b))].astype(int),np.r_[who_a,who_b]
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))
    p = cross_val_predict(fit, x, y, groups=g, cv=StratifiedGroupKFold(5, shuffle=True, random_state=0), method='predict_proba')[:,1]
    rng,each,eyes = np.random.default_rng(0),[],np.unique(g)
    rows = {k:np.flatnonzero(g==k) for k in eyes}
    for _ in range(resamples):
        i = np.concatenate([rows[k] for k in rng.choice(eyes, len(eyes))])
        if 0<y[i].sum()<len(i): each.append(roc_auc_score(y[i], p[i]))
    low,high = np.quantile(each, [.025,.975])
    print(f'{name}: AUC {roc_auc_score(y, p):.3f} ({low:.3f} to {high:.3f}), {len(a)} and {len(b)} pictures', flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('weights')
    for k,v in dict(images=120, resamples=1000).items(): p.add_argument(f'--{k}', type=int, default=v)
    s = p.parse_args()
    net = timm.create_model('tf_efficientnet_lite0', num_classes=1)
    net.load_state_dict({k:v.float() for k,v in load_file(s.weights).items() if not k.startswith('classifier')}, strict=False)
    net.eval()
    df = pd.read_csv(s.data/'idrid/labels.csv')
    grade,b = pd.to_numeric(df.dr_grade, errors='coerce'),T.Bench('cpu', 5)
    def photographs(which): return [square(read_image(s.data/'idrid'/o)) for o in df.image[which][:s.images]]
    ill,well = photographs(grade>=2),photographs(grade==0)
    drawn = [square(phantom_fundus(['diabetic retinopathy'], 71, i+1, eye='RL'[i%2], grade=2+i%3, size=T.SIDE).image) for i in range(len(ill))]
    sets = dict(ill=[o for o,_ in ill], well=[o for o,_ in well], phantoms=[o for o,_ in drawn], again=[again(b, *o) for o in drawn],
                painted=[painted(b, *o, i) for i,o in enumerate(well)])
    sets |= {f'{k} again':[again(b, o, m) for o,(_,m) in zip(sets[k], like)] for k,like in (('ill',ill),('painted',well))}
    f = {k:features(net, v) for k,v in sets.items()}
    who = {k:np.array([f'{o} {i}' for i in range(len(f[k]))]) for k,o in dict(ill='ill', well='well', phantoms='drawn', again='drawn', painted='well').items()}
    who |= {'ill again':who['ill'], 'painted again':who['painted']}
    for name,a,c in (('phantoms from ill eyes','ill','phantoms'), ('phantoms photographed again from ill eyes photographed again','ill again','again'),
                     ('ill eyes from healthy ones','well','ill'), ('healthy eyes with painted lesions from the same without','well','painted'),
                     ('painted from ill eyes','ill','painted'), ('painted from ill eyes, both photographed again','ill again','painted again')):
        told(name, f[a], f[c], who[a], who[c], s.resamples)

if __name__=='__main__': main()
