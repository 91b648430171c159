"""Where in the retina lies what a sex net's answer is made of? FUNDUS_TEST_DATA=DIR python tests/benchmarks/sex_atlas.py RUN OUT

RUN is a readout (mean and spread of some blocks, one linear layer) that was taught on other patients of odir5k, as by
  fundus train sex --data odir5k --arch squeezenet1_1 --weights squeezenet1_1-imagenet.npz --fit readout --maps 0 --out RUN
Such an answer is a sum over places: a mean is a sum of its pixels, a spread one of their squared distances from the mean. So each test
photograph has an exact map of evidence for "male" (up to what is held within five spreads), at the price of one look.
One eye a person is drawn by lot; the maps of women and of men are laid into the retinal frame and compared by clusters against 2,000 deals of the
sexes within bands of age. Power: a spot with an SD of .15 of the way from disc to fovea, put into the maps of half of the people after the sexes
were dealt anew. OUT/frames.npz is kept for the next call; OUT/odir_sex_atlas.csv, which page 74 reads, holds no picture and no patient."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
from types import SimpleNamespace
import cv2, numpy as np, pandas as pd, torch
from sklearn.metrics import roc_auc_score
from fundus_fastai.anatomy.atlas import REGIONS, age_bands, cluster_test, frame_shape, frames_of, input_matrix, region_table
from fundus_fastai.anatomy.biomarkers import feature_effects
from fundus_fastai.explain.occlusion import file_batches
from fundus_fastai.vision.model import load_model

WIDTH,SIDE = 64,18

def area(n, to=SIDE):
    "What each of `n` pixels in a row counts in the means of `to` parts of it [to,n]"
    i,j = np.arange(to)[:,None]*n/to,np.arange(n)
    return torch.from_numpy(np.clip(np.minimum(i+n/to, j+1)-np.maximum(i, j), 0, None)*to/n).float()

@torch.inference_mode()
def evidence(learn, x):
    "Maps [n,SIDE,SIDE] whose mean is the answer for the second class less that for the first, and this answer"
    probe,(scale,line) = learn.model[0],learn.model[1]
    probe.body(x)
    w = (line.weight[1]-line.weight[0])/scale.sd
    ys = [probe.seen.pop(n).float() for n in probe.names]
    n,at = sum(y.shape[1] for y in ys),0
    out = 0
    for y in ys:
        a,b = w[at:at+y.shape[1]],w[n+at:n+at+y.shape[1]]
        m,s = y.mean((2,3), keepdim=True),y.std((2,3), correction=0, keepdim=True).clamp(min=1e-6)
        out = out+area(y.shape[2])@(a[:,None,None]*y+b[:,None,None]*(y-m)**2/s).sum(1)@area(y.shape[3]).T
        at += y.shape[1]
    rest = line.bias[1]-line.bias[0]-(w*scale.mean).sum()
    whole = learn.model(x)
    return (out+rest).numpy(),(whole[:,1]-whole[:,0]).numpy()

def made(run, root):
    "Frames of the test photographs, and their rows"
    learn = load_model(run, 'cpu')
    learn.model.eval()
    df = pd.read_csv(run/'split.csv', dtype={'patient':str})
    df = df[df.split=='test'].sample(frac=1, random_state=0).drop_duplicates('patient').reset_index(drop=True)
    df = df.assign(path=[str(root/p) for p in df.path])
    maps,said = zip(*(evidence(learn, x) for x,_ in file_batches(learn, list(df.path), None, bs=8, num_workers=0)))
    maps,said = np.concatenate(maps),np.concatenate(said)
    print(f'{len(df)} photographs; the mean of a map is the answer within {np.abs(maps.mean((1,2))-said).max():.3f} '
          f'(median {np.median(np.abs(maps.mean((1,2))-said)):.4f}; SD of the answers {said.std():.2f})', flush=True)
    at = dict(zip(df.path, maps))
    def placed(path, im): return at[path],input_matrix(im, SIDE, learn.config.get('recipe', 'crop'))
    x,why = frames_of(df, SimpleNamespace(of_photo=placed), WIDTH)
    return x,df.assign(said=said, reason=why)

def found(x, y, strata, spot, d, *, n=25):
    "How often a spot of `d` standard deviations is found, the sexes dealt anew"
    hits,rng,sd = 0,np.random.default_rng(0),np.nanstd(x, 0)
    for i in range(n):
        z = rng.permutation(y)
        t = cluster_test(x+d*spot*sd*z[:,None,None], z, strata, n_perm=200, seed=i)
        hits += any(o.p<.05 and (m&(spot>.5)).any() for o,m in zip(t.table.itertuples(), t.masks))
    return hits/n

def main(run, out):
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    run,out,root,t0 = Path(run),Path(out),Path(os.environ['FUNDUS_TEST_DATA'])/'odir5k',time.time()
    out.mkdir(parents=True, exist_ok=True)
    if not (out/'frames.npz').exists():
        x,df = made(run, root)
        np.savez_compressed(out/'frames.npz', x=x)
        df.to_csv(out/'rows.csv', index=False)
    x,df = np.load(out/'frames.npz')['x'],pd.read_csv(out/'rows.csv', dtype={'patient':str}, keep_default_na=False)
    age = pd.read_csv(root/'full_df.csv').set_index('filename')['Patient Age']
    df['age'] = df.path.map(lambda o: Path(o).name).map(age).where(lambda a: a>1)
    lost = df.assign(lost=df.reason!='').groupby('label').lost.agg(['sum','size'])
    print(lost.to_string(), f'{time.time()-t0:.0f} s', sep='\n', flush=True)
    kept = (df.reason=='').to_numpy()
    d = df[kept].reset_index(drop=True)
    each,y,strata = x[kept],(d.label=='male').to_numpy(),age_bands(d.age)
    t = cluster_test(each, y, strata, n_perm=2000, names=('female','male'))
    print(t.table.head(8).round(3).to_string())
    rows = [dict(what='people', name=k, value=n) for k,n in (('female',(~y).sum()),('male',y.sum()))]
    rows += [dict(what='AUC', name='answer', value=roc_auc_score(y, d.said))]
    rows += [dict(what='cluster', name=o[1], value=o.d, p=o.p, area=o.area, x=o.x, y=o.y) for o in t.table.head(6).itertuples()]
    parts = region_table(x[kept], WIDTH)
    e = feature_effects(d.join(parts), 'label', [f'mean {k}' for k in REGIONS], adjust=['age'])
    rows += [dict(what='region', name=o.feature.removeprefix('mean '), value=o.effect, low=o.low, high=o.high, p=o.p, q=o.q) for o in e.itertuples()]
    mean = parts.mean()
    rows += [dict(what='share', name=k, value=mean[f'share {k}'], area=mean[f'area {k}']) for k in REGIONS]
    h,w = frame_shape(WIDTH)
    gy,gx = np.mgrid[:h,:w]
    spot = np.exp(-((gx-w*.6)**2+(gy-h*.5)**2)/2/(.15*WIDTH/3.8)**2).astype(np.float32)
    for k in (0., .4, .5, .6):
        rows.append(dict(what='power', name=f'{k:g}', value=found(each, y, strata, spot, k)))
        print(rows[-1], f'{time.time()-t0:.0f} s', flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(out/'odir_sex_atlas.csv', index=False, float_format='%.4g')
    print(table.round(3).to_string())

if __name__=='__main__': main(*sys.argv[1:3])
