"""Which measured features of real eyes differ by sex, which go with age? FUNDUS_TEST_DATA=DIR python tests/benchmarks/biomarkers.py OUT

Measures the photographs of odir5k (OUT/features.csv, kept for the next call; 3 to 4 minutes on a core), tests the whole family by sex with age held
fixed and by age with sex held fixed, on half of the patients and then on the other half, tells how far the features carry a linear model, and writes
one small table, OUT/odir_biomarkers.csv, which page 75 reads: effects of features and scores of models, no picture and no patient."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
import pandas as pd
from fundus_fastai.anatomy.biomarkers import FEATURES, biomarkers, feature_effects, feature_index, measured
from fundus_fastai.data.catalog import read_dataset

KEPT = 'by part feature patients effect low high p q adjusted adj_low adj_high adj_q icc c_patients c_effect c_low c_high c_p c_confirmed'.split()

def main(out):
    out,t0 = Path(out),time.time()
    out.mkdir(parents=True, exist_ok=True)
    df,rows = measured(read_dataset('odir5k', Path(os.environ['FUNDUS_TEST_DATA'])/'odir5k'), out),[]
    print(f'{len(df)} photographs measured after {time.time()-t0:.0f} s; {df.angle.isna().sum()} without a fovea, {df.area.isna().sum()} without that or the outline of the disc', flush=True)
    for by,fixed in (('sex','age'), ('age','sex')):
        everybody = feature_effects(df, by, FEATURES, adjust=[fixed])
        t = biomarkers(df.drop(columns=[*FEATURES,'reason']).assign(**df[FEATURES]), by, out/by, features=FEATURES, ready=True,
                       adjust=[fixed], force=True)
        index = feature_index(df, by, FEATURES, adjust=[fixed])
        print(by, index.to_string(), index.attrs, f'{time.time()-t0:.0f} s', sep='\n', flush=True)
        rows += [everybody.assign(by=by, part='all'), t.assign(by=by, part='halves'),
                 index.assign(by=by, part='index', feature=index.model+' '+index.metric).rename(columns=dict(value='effect'))]
        gone = df.assign(lost=df.angle.isna()).groupby('sex').lost.agg(['sum','size'])
        print(gone.to_string())
    table = pd.concat(rows)
    table[[o for o in KEPT if o in table]].to_csv(out/'odir_biomarkers.csv', index=False, float_format='%.4g')

if __name__=='__main__': main(sys.argv[1])
