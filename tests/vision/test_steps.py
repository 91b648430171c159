"Steps between a table and a learner"
import shutil
import numpy as np, pandas as pd
from PIL import Image
from fundus_fastai.data.splits import split_patients
from fundus_fastai.vision.steps import split_frame

def test_the_same_file_under_two_patients_ties_them(tmp_path, capsys):
    "Byte-identical files keep their patients on one side; dealt without a look at the files they part on some seeds"
    rng = np.random.default_rng(0)
    for i in range(20): Image.fromarray(rng.integers(0, 255, (8,8), dtype=np.uint8)).save(tmp_path/f'{i}.png')
    shutil.copy(tmp_path/'3.png', tmp_path/'9.png')
    df = pd.DataFrame(dict(path=[str(tmp_path/f'{i}.png') for i in range(20)], patient=[f'p{i:02}' for i in range(20)],
                           eye=None, label=['a','b']*10))
    df.attrs['root'] = str(tmp_path)
    def parted(f): return [seed for seed in range(8) if f(df, seed=seed).set_index('patient').split[['p03','p09']].nunique()>1]
    assert parted(split_patients) and not parted(split_frame)
    assert 'the same: 1; their 2 patients are kept' in capsys.readouterr().err
