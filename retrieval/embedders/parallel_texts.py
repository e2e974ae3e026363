"""The same short texts in English and Chinese, to learn what a model says of the language alone.

Written for this purpose, over mixed subjects so that no subject stands out. Order pairs them.
"""

from typing import Final

PASSAGES: Final = (
    (
        "The bridge was opened in 1932 and joins the two halves of the harbour city.",
        "这座大桥于1932年通车，把这座港口城市的两半连接起来。",
    ),
    (
        "Install the package, set the port in the configuration file and restart the service.",
        "安装软件包，在配置文件中设置端口，然后重新启动服务。",
    ),
    (
        "Employees may carry over five days of annual leave until the end of March.",
        "员工可将五天年假结转至次年三月底。",
    ),
    (
        "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
        "光合作用把光、水和二氧化碳转化为糖和氧气。",
    ),
    (
        "The emperor moved the capital to the north and rebuilt the old canal.",
        "皇帝把都城迁往北方，并重修了古老的运河。",
    ),
    (
        "Patients with a high fever should drink plenty of water and see a doctor.",
        "高烧的病人应多喝水，并去看医生。",
    ),
    (
        "The team won the championship after a penalty in the last minute.",
        "这支球队凭借最后一分钟的点球赢得了冠军。",
    ),
    (
        "Revenue grew by eight percent in the second quarter, mostly from exports.",
        "第二季度收入增长了百分之八，主要来自出口。",
    ),
    (
        "Boil the noodles for six minutes and add soy sauce, garlic and spring onions.",
        "面条煮六分钟，然后加入酱油、大蒜和葱花。",
    ),
    (
        "The contract ends if either party gives notice in writing ninety days before.",
        "任何一方提前九十天书面通知，合同即告终止。",
    ),
    (
        "The gateway checks the request's token before it forwards it to the server behind.",
        "网关先校验请求的令牌，再把请求转发给后端服务器。",
    ),
    (
        "The river rises in the western mountains and flows into the sea near the delta.",
        "这条河发源于西部山区，在三角洲附近流入大海。",
    ),
    (
        "Her first novel tells of three generations of a family of fishermen.",
        "她的第一部小说讲述了一个渔民家庭三代人的故事。",
    ),
    (
        "The satellite circles the Earth every ninety minutes at a height of 400 kilometres.",
        "这颗卫星在四百公里的高度上每九十分钟绕地球一圈。",
    ),
    (
        "A backup is made every night and kept for thirty days on another disk.",
        "系统每晚备份一次，并在另一块磁盘上保留三十天。",
    ),
    (
        "The museum shows paintings, porcelain and bronze from the twelfth century.",
        "博物馆展出十二世纪的绘画、瓷器和青铜器。",
    ),
    (
        "The species lives in shallow water and feeds on small shrimps and algae.",
        "该物种生活在浅水中，以小虾和藻类为食。",
    ),
    (
        "Parliament passed the law by 312 votes to 205 after a long debate.",
        "经过长时间辩论，议会以312票对205票通过了该法律。",
    ),
    (
        "The song reached the top of the charts and was translated into nine languages.",
        "这首歌登上了排行榜首位，并被译成九种语言。",
    ),
    (
        "Trains to the airport leave every fifteen minutes from platform two.",
        "开往机场的列车每十五分钟从二号站台发车。",
    ),
    (
        "Wash the filter once a month and never run the machine without it.",
        "每月清洗一次滤网，切勿在没有滤网的情况下运行机器。",
    ),
    (
        "The school was founded by a merchant who wanted every child to read and write.",
        "这所学校由一位商人创办，他希望每个孩子都能读书写字。",
    ),
    (
        "An error of this kind means that the database can't be reached over the network.",
        "这类错误表示无法通过网络访问数据库。",
    ),
    (
        "The theorem says that there are infinitely many prime numbers.",
        "该定理指出，素数有无穷多个。",
    ),
)

QUESTIONS: Final = (
    ("When was the bridge opened?", "这座大桥是什么时候通车的？"),
    ("How do I change the port of the service?", "怎样修改服务的端口？"),
    ("How many days of leave can be carried over?", "可以结转多少天年假？"),
    ("What does photosynthesis produce?", "光合作用产生什么？"),
    ("Why did the emperor move the capital?", "皇帝为什么迁都？"),
    ("What should a patient with a fever do?", "发烧的病人应该怎么办？"),
    ("Who won the championship?", "谁赢得了冠军？"),
    ("By how much did revenue grow in the second quarter?", "第二季度收入增长了多少？"),
    ("How long must the noodles be boiled?", "面条要煮多长时间？"),
    ("How can the contract be ended?", "如何终止合同？"),
    ("What does the gateway check before it forwards a request?", "网关在转发请求之前检查什么？"),
    ("Where does the river flow into the sea?", "这条河在哪里流入大海？"),
    ("What is her first novel about?", "她的第一部小说讲的是什么？"),
    ("At what height does the satellite fly?", "这颗卫星飞行的高度是多少？"),
    ("How long are backups kept?", "备份保留多久？"),
    ("What can be seen in the museum?", "在博物馆里可以看到什么？"),
    ("What does the species feed on?", "该物种以什么为食？"),
    ("How many members of parliament voted for the law?", "有多少议员投票赞成该法律？"),
    ("Into how many languages was the song translated?", "这首歌被译成了几种语言？"),
    ("Which platform do trains to the airport leave from?", "开往机场的列车从几号站台发车？"),
    ("How often must the filter be washed?", "滤网多久清洗一次？"),
    ("Who founded the school?", "这所学校是谁创办的？"),
    ("What does the error message mean?", "这条错误信息是什么意思？"),
    ("How many prime numbers are there?", "素数有多少个？"),
)
