"The numbers of R 4.2.2 on 24 made-up images of 12 patients, with ties"
import numpy as np, pytest
from fundus_fastai.score.calibration import calibration_slope, temperature
from fundus_fastai.score.compare import delong, delong_interval, holm, mcnemar
from fundus_fastai.score.estimate import acceleration, wilson
from fundus_fastai.score.metrics import auc, cohen_kappa, confusion

who = np.repeat(np.arange(12), 2)
y = np.array([0,0,1,0,1,1,0,0,0,1,0,0,1,1,0,0,0,1,0,0,1,0,0,0])
a = np.array([2,1,7,3,6,9,3,2,7,4,1,2,8,5,4,1,3,7,2,6,3,5,2,1])/10
b = np.array([3,4,5,2,6,8,4,1,6,6,3,2,7,2,5,3,4,4,1,5,5,6,3,2])/10
g = np.array([0,1,2,0,3,4,1,0,2,3,0,0,4,3,1,0,1,2,0,2,3,1,0,0])
h = np.array([0,1,3,0,3,4,2,0,1,2,0,1,4,4,1,0,0,2,1,2,1,1,0,0])

def test_auc_as_pROC():
    "1.18.0: auc(roc(y, a, direction='<')), roc.test(..., method='delong'); plogis(qlogis(A) +- 1.96*sqrt(var)/(A*(1-A)))"
    d = delong(y, a, b)
    assert (auc(y, a),auc(y, b))==(.890625,.796875)
    assert d[:4]==pytest.approx((.09375,-.095692943802,.283192943802,.332080782425), rel=1e-9)
    assert delong_interval(y, a)[1:3]==pytest.approx((.691414570151,.967312895114), rel=1e-9)

def test_calibration_as_glm():
    "glm(y~qlogis(a), binomial), glm(y~offset(qlogis(a)), binomial), and with weights; 1/coef(glm(y~0+qlogis(a), binomial))"
    def told(w=None): return tuple(calibration_slope(y, a, w).values())
    assert told()==pytest.approx((1.715102551653,-.332367269845), rel=1e-7)
    assert told(np.tile([1.,2.,3.], 8))==pytest.approx((1.511260196576,-.235496917936), rel=1e-7)
    assert temperature(y, a)==pytest.approx(.566804680183, rel=1e-4)

def test_kappa_as_psych():
    "2.2.9: cohen.kappa(table(g, h)), its weighted kappa by squares, and with w=1-abs(outer(0:4, 0:4, '-'))/4"
    ours = [cohen_kappa(confusion(g, h, 5), o) for o in ('none','quadratic','linear')]
    assert ours==pytest.approx([.507972665148,.862464183381,.718309859155], rel=1e-9)

def test_accuracies_as_survey_and_exactRankTests():
    "4.1.1: x = (g==h)-(g==3); confint(svymean(~x, svydesign(id=~who)), df=11), without the 8th too; 0.8.35: perm.test of sums; binom.test(14, 17)"
    three,some = np.full(24, 3),np.arange(24)!=7
    exact,mid = (mcnemar(g, h, three, mid=o).p for o in (False, True))
    m,uneven = mcnemar(g, h, three, patient=who, mid=False),mcnemar(g[some], h[some], three[some], patient=who[some])
    assert m[:4]==pytest.approx((.458333333333,.172310029442,.744356637225,.015625), rel=1e-9)
    assert uneven[:3]==pytest.approx((.434782608696,.133017289912,.736547927479), rel=1e-9)
    assert (exact,mid)==pytest.approx((.01272583007812,.00753784179687), rel=1e-9)

def test_shares_many_tests_and_acceleration():
    "p.adjust(p, 'holm'); Hmisc 4.8.0: binconf(7, 60), binconf(60, 60, alpha=.1); boot 1.3.28.1: L = empinf(b, type='jack'), sum(L^3)/(6*sum(L^2)^1.5)"
    ours = holm([.01,.04,np.nan,.03,.005,.5,.04])
    assert np.allclose(ours, [.05,.12,np.nan,.12,.03,.5,.12], equal_nan=True)
    assert wilson(7/60, 60)==pytest.approx((.0576772064006,.221787880199), rel=1e-9) and wilson(1, 60, .9)[0]==pytest.approx(.956853201407, rel=1e-9)
    m = np.abs(a-b).reshape(12, 2).mean(1)
    left = np.array([np.delete(m, i).mean() for i in range(12)])
    assert acceleration(left)==pytest.approx(-.00571367421544, rel=1e-9)
