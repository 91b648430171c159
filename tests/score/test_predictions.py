"Tables of predictions: what is no such table is refused"
import numpy as np, pandas as pd, pytest
from fundus_fastai.core import DataError
from fundus_fastai.score.kinds import check_predictions, read_predictions
from fundus_fastai.score.predictions import tell_formulas
from fundus_fastai.score.scores import score
from made import class_table

pytestmark = [pytest.mark.filterwarnings('error'), # no warning may be spilled, but for a pipe that another test's process left open
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]

@pytest.fixture
def preds(): return class_table()

@pytest.mark.parametrize('change,words', [
    (lambda d: d.assign(p_CNV=np.nan), 'not a number in 120 of 120 rows'),
    (lambda d: d.assign(p_CNV='x'), 'not a number'),
    (lambda d: d.assign(p_CNV=-.5), 'outside 0 to 1'),
    (lambda d: d.assign(p_CNV=d.p_CNV/2), 'do not sum to one'),
    (lambda d: d.assign(target='AMD'), 'target AMD has no column p_AMD'),
    (lambda d: d.assign(path='a.png'), 'more than one row: a.png'),
    (lambda d: d.assign(patient=None), 'patient is missing in 120 of 120 rows'),
    (lambda d: d.assign(target=''), 'target is missing'),
    (lambda d: d.drop(columns='target'), 'no column target'),
    (lambda d: d.drop(columns=['p_DME','p_DRUSEN','p_NORMAL']), 'at least two classes'),
    (lambda d: d[:0], 'no rows'),
    (lambda d: pd.concat([d, d[['p_CNV']]], axis=1), 'p_CNV occurs twice'),
])
def test_bad_tables(preds, change, words, tmp_path):
    with pytest.raises(DataError, match=words): check_predictions(change(preds))
    if 'twice' in words: return
    change(preds).to_csv(tmp_path/'x.csv', index=False)
    with pytest.raises(DataError, match=words): read_predictions(tmp_path/'x.csv')

def test_bad_files(tmp_path, preds):
    with pytest.raises(DataError, match='does not exist'): read_predictions(tmp_path/'no.csv')
    with pytest.raises(DataError, match='cannot be read .Is a directory.: name a predictions.csv'): read_predictions(tmp_path)
    for name,b in [('empty.csv',b''), ('bin.csv',b'\x00\xff\xfe\x81\x82'), ('one.csv',b'hello\n'), ('long.csv',b'path,target\na,b\na,b,c\n'), ('quote.csv',b'path,target\n"a,b\n')]:
        (tmp_path/name).write_bytes(b)
        with pytest.raises(DataError, match=name) as e: read_predictions(tmp_path/name)
        assert '\n' not in str(e.value)
    with pytest.raises(DataError, match='not for A, B'): check_predictions(preds, ['A','B'])

def test_names_stay_names(preds, tmp_path):
    d = preds.rename(columns={'p_CNV':'p_0','p_DME':'p_NA'}).replace({'target':{'CNV':'0','DME':'NA'}}).assign(patient='00'+preds.patient)
    d.to_csv(tmp_path/'p.csv', index=False)
    got = read_predictions(tmp_path/'p.csv')
    assert {'0','NA'}<set(got.target) and got.patient[0]=='000'

def test_how_far_a_sum_may_be_off(preds):
    "Three digits of four classes sum to one but for rounding; what is off by more is told with its file"
    assert len(check_predictions(preds.assign(p_CNV=preds.p_CNV+9e-4)))==120
    bad = preds.p_CNV.where(preds.index!=7, preds.p_CNV+1.1e-3)
    with pytest.raises(DataError, match=f'sum to one in 1 of 120 rows: {preds.path[7]}$'): check_predictions(preds.assign(p_CNV=bad))

def test_rows_are_counted_as_a_table_shows_them(preds):
    with pytest.raises(DataError, match='patient is missing in 2 of 120 rows: row 1, 3$'):
        check_predictions(preds.assign(patient=preds.patient.where(~preds.index.isin([0,2]))))

def test_a_width_in_words_is_told_and_an_empty_one_is_not(preds, capsys):
    got = check_predictions(preds.assign(width=['wide','','NaN',None,'100',50]*20))
    assert "20 of 120 values of width are no numbers (wide)" in capsys.readouterr().err
    assert got.width.dropna().tolist()==[100,50]*20
    check_predictions(preds.assign(width=['',None,'100']*40))
    assert capsys.readouterr().err==''

def test_a_file_gives_back_the_very_numbers(tmp_path):
    "To the last digit, which pandas' own reader of text misses now and then; an empty eye is none"
    p = np.random.default_rng(0).random(20_000)
    d = pd.DataFrame(dict(path=[f'{i}' for i in range(len(p))], patient='a', eye=['L',None]*10_000, target=['x','y']*10_000, p_x=p, p_y=1-p))
    d.to_csv(tmp_path/'p.csv', index=False)
    got = read_predictions(tmp_path/'p.csv')
    assert (got.p_x==p).all() and (got.p_y==1-p).all() and set(got.eye.dropna())=={'L'} and got.eye.isna().sum()==10_000

def test_names_are_text_and_rounding_is_no_fault(preds):
    assert check_predictions(preds.assign(patient=preds.patient.astype(int))).patient.tolist()==preds.patient.tolist()
    def below(by):
        d = preds.copy()
        d.loc[3,['p_CNV','p_DME']] = -by,d.p_CNV[3]+d.p_DME[3]
        return check_predictions(d)
    assert len(below(1e-7))==120
    with pytest.raises(DataError, match='outside 0 to 1 in 1 of 120'): below(1e-5)

def test_what_a_spreadsheet_would_run_is_told_and_stays(preds, tmp_path, capsys):
    "A file called as a formula keeps its name, by which programs find it; whoever opens the table is told"
    name = "=cmd|' /C calc'!A0.png"
    odd = preds.assign(path=[name, *preds.path[1:]])
    assert tell_formulas(odd, 'p.csv')
    assert capsys.readouterr().err==f"p.csv: {name} would be a formula to a spreadsheet: import the columns as text\n"
    assert not tell_formulas(preds.assign(remark='-', note='-0.5')) and not capsys.readouterr().err
    assert tell_formulas(preds.rename(columns={'p_CNV':'@SUM(1)'}))
    score(odd, n_boot=5).save(tmp_path)
    assert 'formula' in capsys.readouterr().err and name in read_predictions(tmp_path/'predictions.csv').path.tolist()
